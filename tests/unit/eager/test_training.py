"""Models in training: what their exported program takes and gives, that its gradients are eager's, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.export.graph_signature import OutputKind

from lowering.eager import inputs
from lowering.errors import LoadError, Unsupported
from lowering.fx.exported import Exported, read_signature
from lowering.ir import source_lines
from lowering.level import Level, Program
from lowering.model import Input, Model, Symbol
from lowering.model_checks import find_problems
from lowering.numerics.running.runner import Eager, make_runner
from lowering.numerics.running.xla import Xla
from lowering.ops.images import convolution
from lowering.plain import from_plain, to_plain
from lowering.stage import Silent
from lowering.stages.export import Export
from lowering.store import programs

CROSS_ENTROPY = {"_target_": "torch.nn.functional.cross_entropy", "outputs": {"input": "logits"}, "targets": {"target": "labels"},
                 "label_smoothing": 0.1}  # fmt: skip
X = Input("float32", ("batch", 4))
LABELS = Input("int64", ("batch",), {"randint": [0, 3]})


def model(name: str, loss: str | Mapping[str, Any] = "loss", more: Mapping[str, Input] | None = None, **arguments: Any) -> Model:
    factory = {"_target_": f"tests.unit.models.training_models.{name}", **arguments}
    return Model(name, factory, {"x": X, **(more or {})}, {"batch": Symbol(2, 64)}, mode="training", loss=loss)


CLASSIFIER = model("Classifier", CROSS_ENTROPY, {"labels": LABELS})


def exported(declared: Model, **options: Any) -> Program:
    return Export(archive=False, **options).apply(Program(Level.MODEL, declared), Silent())


@pytest.fixture(scope="module")
def classifier() -> Program:
    return exported(CLASSIFIER)


def compared(program: Program, declared: Model, batch: int | None = None, **sizes: int) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """Each result of the exported program and of eager, by name, at sizes that were not traced."""
    assert program.signature is not None
    given = inputs.make(declared, sizes if batch is None else {"batch": batch})
    module = program.at(Level.MODEL).ir.module  # type: ignore[union-attr]
    want = Eager(declared, module, program.signature)(given)
    got = make_runner(program, Xla("cpu"))({argument.name: given[argument.name] for argument in program.signature.inputs})
    return {result.label: pair for result, *pair in zip(program.signature.returned, got, want, strict=True)}  # type: ignore[misc]


def test_a_program_gives_loss_outputs_gradients_and_statistics(classifier: Program) -> None:
    assert classifier.signature is not None
    assert [argument.name for argument in classifier.signature.inputs] == ["x", "labels"]
    assert {result.name: (result.kind, result.dims) for result in classifier.signature.results} == {
        "norm.running_mean": ("buffer_mutation", (6,)), "norm.running_var": ("buffer_mutation", (6,)),
        "norm.num_batches_tracked": ("buffer_mutation", ()),
        "loss": ("output", ()), "logits": ("output", ("batch", 3)),
        "grad.up.weight": ("gradient", (6, 4)), "grad.up.bias": ("gradient", (6,)),
        "grad.norm.weight": ("gradient", (6,)), "grad.norm.bias": ("gradient", (6,)),
        "grad.head.weight": ("gradient", (3, 6)), "grad.head.bias": ("gradient", (3,)),
    }  # fmt: skip


@pytest.mark.parametrize("batch", [2, 19])
def test_results_are_those_of_eager_autograd(classifier: Program, batch: int) -> None:
    for name, (got, want) in compared(classifier, CLASSIFIER, batch).items():
        torch.testing.assert_close(got, want, msg=lambda text, name=name: f"{name}: {text}")


def test_a_program_with_gradients_is_stored_and_read_back(classifier: Program) -> None:
    data = programs.dump(classifier)
    assert data is not None
    back = replace(classifier, ir=programs.load(Level.EXPORTED, data, classifier.weights))
    assert read_signature(Exported(back.ir), CLASSIFIER) == classifier.signature
    for got, want in compared(back, CLASSIFIER, 11).values():
        torch.testing.assert_close(got, want)


def test_exporting_leaves_the_running_statistics_as_they_were_built(classifier: Program) -> None:
    assert classifier.weights["norm.num_batches_tracked"] == 0
    assert torch.equal(classifier.weights["norm.running_var"], torch.ones(6))


def test_backward_ops_know_the_line_and_the_module_that_they_belong_to(classifier: Program) -> None:
    given = {spec.target: spec.arg.name
             for spec in classifier.ir.graph_signature.output_specs if spec.kind is OutputKind.GRADIENT_TO_PARAMETER}
    node = next(node for node in classifier.ir.graph.nodes if node.name == given["up.weight"])
    line = source_lines.find_fx_line(node)
    assert line is not None
    assert line.file.endswith("linear.py")
    assert line.module == "up"


@pytest.mark.parametrize("options", [{"decompose": "core"}, {"strict": True}])
def test_other_ways_of_export_give_the_same(options: Mapping[str, Any]) -> None:
    for name, (got, want) in compared(exported(CLASSIFIER, **options), CLASSIFIER, 7).items():
        torch.testing.assert_close(got, want, msg=lambda text, name=name: f"{name}: {text}")


def test_the_choice_of_a_backend_bounds_no_size() -> None:
    declared = model("Convolved")
    program = exported(declared)
    assert program.signature is not None and program.signature.guards == ()
    for name, (got, want) in compared(program, declared, 19).items():
        torch.testing.assert_close(got, want, msg=lambda text, name=name: f"{name}: {text}")


def test_a_region_without_gradients_is_a_constant_of_the_loss_and_an_input_may_be_an_output() -> None:
    declared = model("Stopped")
    for name, (got, want) in compared(exported(declared), declared, 9).items():
        torch.testing.assert_close(got, want, msg=lambda text, name=name: f"{name}: {text}")


def test_gradients_of_a_linear_system() -> None:
    declared = model("Solved")
    program = exported(declared)
    assert "token" not in program.ir.graph_module.code and "with_effects" not in program.ir.graph_module.code
    for name, (got, want) in compared(program, declared, 9).items():
        torch.testing.assert_close(got, want, msg=lambda text, name=name: f"{name}: {text}")


def test_dropout_is_refused_with_module_and_line() -> None:
    with pytest.raises(Unsupported) as caught:
        exported(model("Dropping", p=0.1))
    first, second = (str(problem) for problem in caught.value.problems)
    assert "in body.1" in first
    assert "training_models.py" in second
    assert "probability to 0" in second


def test_dropout_of_probability_0_is_none() -> None:
    declared = model("Dropping", p=0.0)
    for got, want in compared(exported(declared), declared, 5).values():
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("name", ["Lone", "Counted", "Averaged"])
def test_a_lone_result_is_the_loss(name: str) -> None:
    declared = model(name)
    for got, want in compared(exported(declared), declared, 5).values():
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("tokens", [3, 8])
def test_a_part_of_a_dim_may_have_one_element(tokens: int) -> None:
    tree = Input("int64", ("rows", "tokens"), {"randint": [0, 5]})
    declared = replace(model("Shifted"), inputs={"tokens": tree}, symbols={"rows": Symbol(1, 64), "tokens": Symbol(3, 64)})
    program = exported(declared)
    assert program.signature is not None and program.signature.guards == ()
    for got, want in compared(program, declared, rows=1, tokens=tokens).values():
        torch.testing.assert_close(got, want)


@pytest.mark.parametrize("name", ["Spectral", "Fitted", "Written", "Scanned"])
def test_gradients_ask_nothing_of_a_dim(name: str) -> None:
    declared = replace(model(name), symbols={"batch": Symbol(1, 64)})
    program = exported(declared)
    assert program.signature is not None and program.signature.guards == ()
    for batch in (1, 2, 9):
        for label, (got, want) in compared(program, declared, batch).items():
            torch.testing.assert_close(got, want, msg=lambda text, label=label: f"{label}: {text}")


def test_gradients_of_gradients_are_refused() -> None:
    with pytest.raises(Unsupported, match=r"models.Penalized.mode: forward takes gradients"):
        exported(model("Penalized"))


def test_a_checkpointed_part_has_its_gradients_or_is_refused() -> None:
    declared = model("Checkpointed", use_reentrant=False)
    for got, want in compared(exported(declared), declared, 5).values():
        torch.testing.assert_close(got, want)
    with pytest.raises(Unsupported, match=r"models.Checkpointed: .*use_reentrant=True.*pass use_reentrant=False"):
        exported(model("Checkpointed", use_reentrant=True))


@pytest.mark.parametrize(("loss", "cause"), [
    ("lss", "has no output 'lss' (outputs: logits)"),
    ("logits", "is torch.float32 of shape [2, 3]"),
    ({**CROSS_ENTROPY, "outputs": {"input": "logit"}}, "has no output 'logit' (did you mean 'logits'?)"),
    ({**CROSS_ENTROPY, "smoothing": 0.1}, "unexpected keyword argument 'smoothing'"),
])  # fmt: skip
def test_a_loss_that_is_none_is_a_load_error(loss: Any, cause: str) -> None:
    declared = replace(CLASSIFIER, loss=loss, inputs={"x": X} if isinstance(loss, str) else CLASSIFIER.inputs)
    with pytest.raises(LoadError) as caught:
        exported(declared)
    assert cause in str(caught.value)


@pytest.mark.parametrize(("changes", "place", "cause"), [
    ({"mode": "inference"}, "model.loss", "is only for models in training"),
    ({"loss": {"outputs": {"input": "logits"}}}, "model.loss", "has no _target_"),
    ({"loss": {"_target_": "a.b"}}, "model.loss", "has no outputs"),
    ({"loss": {**CROSS_ENTROPY, "targets": ["labels"]}}, "model.loss.targets", "is not a mapping"),
    ({"loss": {**CROSS_ENTROPY, "targets": {"target": "label"}}}, "model.loss.targets.target", "did you mean 'labels'?"),
])  # fmt: skip
def test_a_wrong_loss_is_refused_before_anything_is_built(changes: Mapping[str, Any], place: str, cause: str) -> None:
    problems = find_problems(replace(CLASSIFIER, **changes))
    assert [problem.place for problem in problems] == [place]
    assert cause in str(problems[0])


def test_a_model_in_training_goes_through_json() -> None:
    assert from_plain(Model, to_plain(CLASSIFIER)) == CLASSIFIER


@pytest.mark.parametrize(("image", "weight", "stride", "padding", "dilation", "is_transposed", "output_padding", "groups"), [
    ((2, 3, 9), (4, 3, 3), [1], [0], [1], False, [0], 1),
    ((5, 4, 9, 11), (6, 4, 3, 3), [2, 2], [1, 1], [1, 1], False, [0, 0], 1),
    ((3, 4, 9, 10), (6, 2, 2, 3), [3, 2], [0, 1], [1, 2], False, [0, 0], 2),
    ((3, 4, 7, 8), (4, 1, 3, 3), [1, 1], [2, 2], [2, 2], False, [0, 0], 4),
    ((1, 2, 5, 6, 7), (3, 2, 3, 1, 2), [1, 2, 1], [1, 0, 1], [1, 1, 1], False, [0, 0, 0], 1),
    ((2, 4, 5, 6), (4, 3, 3, 3), [2, 2], [1, 1], [1, 1], True, [1, 1], 1),
    ((2, 4, 5, 6), (4, 3, 3, 2), [3, 2], [1, 0], [1, 1], True, [0, 1], 2),
])  # fmt: skip
def test_the_gradients_of_a_convolution_are_torchs(image: tuple[int, ...], weight: tuple[int, ...], stride: list[int], padding: list[int],
                                                   dilation: list[int], is_transposed: bool, output_padding: list[int],
                                                   groups: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x, w = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in (image, weight))
    settings = (stride, padding, dilation, is_transposed, output_padding, groups)
    gradient = torch.randn(torch.ops.aten.convolution.default(x, w, None, *settings).shape, generator=generator, dtype=torch.float64)
    bias_sizes = [gradient.shape[1]]
    want = torch.ops.aten.convolution_backward.default(gradient, x, w, bias_sizes, *settings, [True, True, True])
    torch.testing.assert_close(convolution.backward(gradient, x, w, bias_sizes, *settings, [True, True, True]), want)
