"""Inputs that are proposed for models of transformers: their shapes and ranges."""

from __future__ import annotations

import pytest
import torch

from lowering.recipe import TARGET
from lowering.sources import huggingface, huggingface_proposal


@pytest.mark.parametrize(("architecture", "longest"), [("RobertaModel", 511), ("BertModel", 512)])
def test_positions_up_to_that_of_padding_are_not_proposed(architecture: str, longest: int) -> None:
    found = huggingface_proposal.propose(architecture)
    assert found.symbols["seq"] == {"min": 1, "max": longest}
    module = huggingface.build(**{key: value for key, value in found.factory.items() if key != TARGET}).eval()
    with torch.no_grad():
        module(input_ids=torch.full((1, longest), 5))
        with pytest.raises((RuntimeError, IndexError)):
            module(input_ids=torch.full((1, longest + 1), 5))


@pytest.mark.parametrize(("architecture", "name", "shape"), [
    ("VJEPA2Model", "pixel_values_videos", ["batch", 8, 3, 64, 64]),
    ("LasrEncoder", "input_features", ["batch", "frames", 128]),
    ("ParakeetForCTC", "input_features", ["batch", "frames", 80]),  # the config of its encoder has the number of features
    ("PatchTSTForPrediction", "past_values", ["batch", 32, 1]),
])  # fmt: skip
def test_the_shape_of_another_main_input_is_read_from_docstring_and_config(architecture: str, name: str, shape: list[int | str]) -> None:
    found = huggingface_proposal.propose(architecture)
    assert found.complete and {key: leaf["shape"] for key, leaf in found.inputs.items()} == {name: shape}
    assert set(found.symbols) == {dim for dim in shape if isinstance(dim, str)}


def test_a_range_begins_where_forward_takes_its_smallest_size() -> None:
    found = huggingface_proposal.propose("PeAudioEncoder")
    assert found.complete and found.symbols == {"batch": {"min": 1, "max": 8}, "samples": {"min": 4000, "max": 16000}}
    assert "forward refuses samples=1000: the range begins at a size that was tried." in found.notes
