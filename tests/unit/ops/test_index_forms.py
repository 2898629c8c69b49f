"""Everyday forms of indexing, slicing, rolling, padding and filling reach MHLO with dynamic dims and eager's numbers, or are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from lowering import pipeline
from lowering.job import Job
from lowering.model import Input, Model, Symbol
from lowering.record.result import JobResult
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from lowering.stages.verify import Verify

STAGES = {"export": Export(archive=False), "torchscript": ToTorchScript(deployable=False), "torch": ToTorchDialect(),
          "stablehlo": ToStableHLO(),
          "mhlo": ToMHLO(), "verify": Verify(points=3)}  # fmt: skip

ROWS = Input("float32", ("a", 4))
MASK = Input("bool", ("a",), {"randint": [0, 2]})


def lower(name: str, given: dict[str, Input], symbols: dict[str, Symbol], folder: Path, mode: str = "inference",
          verify: Verify = STAGES["verify"]) -> JobResult:  # type: ignore[assignment]
    model = Model(name, {"_target_": f"tests.unit.models.index_models.{name}"}, given, symbols, mode=mode)  # type: ignore[arg-type]
    return pipeline.run(Job(model, {**STAGES, "verify": verify}), folder)


@pytest.mark.parametrize(("name", "given", "symbols"), [
    ("Slices", {"x": ROWS, "y": Input("float32", ("a", "b"))}, {"a": Symbol(1, 6), "b": Symbol(8, 19)}),
    ("OneBeforeTheLast", {"x": Input("float32", ("a", "b"))}, {"a": Symbol(1, 6), "b": Symbol(1, 8)}),
    ("Scattered", {"x": ROWS, "y": Input("float32", ("a", "b"))}, {"a": Symbol(1, 6), "b": Symbol(8, 19)}),
    ("Rolled", {"x": Input("float32", ("a", "b", "c"))}, {"a": Symbol(1, 4), "b": Symbol(1, 8), "c": Symbol(1, 8)}),
    ("Same", {"x": Input("float32", ("a", 3, "b"))}, {"a": Symbol(1, 4), "b": Symbol(4, 20)}),
    ("Filled", {"x": ROWS, "mask": Input("bool", ("a", 4), {"randint": [0, 2]})}, {"a": Symbol(1, 9)}),
    ("ConstantMask", {"x": ROWS}, {"a": Symbol(1, 9)}),
    ("Buckets", {"edges": Input("float32", ("a",)), "x": Input("float32", ("b", "c"))},
     {"a": Symbol(1, 40), "b": Symbol(1, 4), "c": Symbol(1, 20)}),
    ("Attention", {"q": Input("float32", ("a", 4, "b", "c")), "k": Input("float32", ("a", 2, "b", "c"))},
     {"a": Symbol(1, 4), "b": Symbol(1, 7), "c": Symbol(1, 16)}),
    ("Transposed", {"x": Input("float32", ("a", 3, "b", 6)), "w": Input("float32", (3, 2, "c", "c"))},
     {"a": Symbol(1, 4), "b": Symbol(1, 7), "c": Symbol(1, 5)}),
    ("LargerSource", {"x": ROWS, "index": Input("int64", ("a", 3), {"randint": [0, 4]})}, {"a": Symbol(1, 9)}),
    ("Named", {"X": ROWS, "inputIds": ROWS, "größe": Input("float32", ("a",))}, {"a": Symbol(1, 9)}),
    ("Mapped", {"x": ROWS, "w": Input("float32", (4, 2))}, {"a": Symbol(1, 9)}),
    ("MappedColumns", {"x": ROWS, "w": Input("float32", (4, 2))}, {"a": Symbol(1, 9)}),
    ("Wide", {"x": ROWS}, {"a": Symbol(1, 2**31)}),
])  # fmt: skip
def test_reaches_mhlo_with_the_numbers_of_eager(name: str, given: dict[str, Input], symbols: dict[str, Symbol], tmp_path: Path) -> None:
    """Attention and transposed convolution spread NaN and infinities further than eager does: see docs/special_values.md."""
    values = ("edges",) if name in ("Attention", "Transposed") else ("edges", "non-finite")
    result = lower(name, given, symbols, tmp_path, verify=Verify(points=3, values=values))
    assert (result.outcome, result.problems) == ("ok", ())


@pytest.mark.parametrize("name", ["Masked", "MaskedColumns"])
def test_a_mask_that_is_data_is_refused_by_op_and_line(name: str, tmp_path: Path) -> None:
    result = lower(name, {"x": ROWS, "mask": MASK}, {"a": Symbol(1, 9)}, tmp_path)
    assert (result.outcome, result.stage) == ("unsupported", "stablehlo")
    (problem,) = result.problems
    assert problem.place.startswith("aten.index.Tensor at ")
    assert "index_models.py" in problem.place


def test_the_gradient_that_a_function_defines_itself_is_kept(tmp_path: Path) -> None:
    result = lower("Straight", {"x": ROWS}, {"a": Symbol(2, 9)}, tmp_path, mode="training")
    assert (result.outcome, result.problems) == ("ok", ())


def test_a_function_whose_gradient_cannot_be_kept_is_refused_by_name_and_line(tmp_path: Path) -> None:
    result = lower("StraightBySize", {"x": ROWS}, {"a": Symbol(2, 9)}, tmp_path, mode="training")
    assert (result.outcome, result.stage) == ("unsupported", "export")
    assert "'RoundedBy' at " in str(result.problems[0])
    assert "index_models.py" in str(result.problems[0])
