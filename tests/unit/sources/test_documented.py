"""Arguments of forward as docstrings describe them, and proposals that name them."""

from __future__ import annotations

from transformers import BrosModel

from lowering.sources import documented, huggingface_proposal


def forward(x: object, boxes: object = None, labels: object = None) -> None:
    """Compute.

    Args:
        x (`torch.FloatTensor` of shape `(batch_size, 4)`):
            The input.
        boxes (`torch.LongTensor` of shape `(batch_size, sequence_length, 4)`, *optional*):
            Of shape (n,).
        labels (`torch.LongTensor` of shape `(batch_size,)`, *optional*): Targets.
        scale (`float`): A number.
    """


def test_undeclared_tensors_are_noted_with_their_shapes() -> None:
    assert documented.list_notes(forward, {"x"}) == ("forward also takes boxes, a LongTensor of shape (batch_size, sequence_length, 4).",)
    assert documented.find_shape(forward, "x") == "(batch_size, 4)" and documented.find_shape(forward, "scale") == ""
    assert documented.list_notes(lambda x: x, ()) == ()


def test_docstrings_of_transformers_have_the_expected_form() -> None:
    notes = documented.list_notes(BrosModel.forward, {"input_ids"})
    assert "forward also takes bbox, a Tensor of shape (batch_size, num_boxes, 4)." in notes


def test_an_architecture_with_several_main_inputs_is_proposed() -> None:
    found = huggingface_proposal.propose("OneFormerForUniversalSegmentation")
    assert list(found.inputs) == ["pixel_values", "task_inputs"] and not found.complete
    assert "Give the shape of task_inputs, (batch_size, sequence_length)." in found.notes
