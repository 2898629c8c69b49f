"""Forms of ops that architectures use and no level may lose: they reach MHLO with dynamic dims and the numbers of eager."""

from __future__ import annotations

from pathlib import Path

import pytest

from lowering import pipeline
from lowering.job import Job
from lowering.model import Input, Model, Symbol
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from lowering.stages.verify import Verify

STAGES = {"export": Export(archive=False), "torchscript": ToTorchScript(deployable=False), "torch": ToTorchDialect(),
          "stablehlo": ToStableHLO(),
          "mhlo": ToMHLO(), "verify": Verify(points=3)}  # fmt: skip

PICTURE = Input("float32", ("batch", 3, "height", "width"))


@pytest.mark.parametrize(("name", "given"), [
    ("Window", {"x": PICTURE}),
    ("Rotation", {"x": Input("float32", ("batch", "seq", 2)), "angle": Input("float32", ("batch", "seq"))}),
    ("Parts", {"x": Input("float32", ("batch", 2)), "y": Input("float32", ("batch", 4))}),
    ("Ends", {"x": Input("float32", ("batch", "seq")), "y": Input("float32", ("batch",))}),
    ("Repeated", {"x": Input("float32", ("batch", "seq", 6)), "bias": Input("float32", ("seq", "seq", 4))}),
    ("Resized", {"x": Input("float32", ("batch", 3, 8, 8)), "y": PICTURE}),
    ("WeightNorm", {"x": Input("float32", ("batch", 4, "seq"))}),
    ("Unfolded", {"x": Input("float32", ("batch", "seq", 4))}),
    ("Regrouped", {"x": Input("float32", ("batch", 8)), "y": Input("float32", ("batch", 2, 4))}),
    ("Composed", {"x": Input("float32", ("batch", "seq")), "y": Input("float32", ("seq", 3))}),
    ("Solved", {"x": Input("float32", ("batch", 3, 3)), "i": Input("int64", ("batch", "seq"), {"randint": [-9, 9]})}),
    ("Unbatched", {"x": Input("float32", (3, "height", "width"))}),
    ("Margins", {"x": Input("float32", ("batch", 5)), "y": Input("int64", ("batch", 5), {"randint": [-1, 4]})}),
    ("Flexible", {name: Input("float32", ("batch", heads, "seq", 4)) for name, heads in (("x", 4), ("y", 2))}),
    ("Selected", {"x": Input("float32", ("batch", "seq", 4))}),
])
def test_reaches_mhlo_with_the_numbers_of_eager(name: str, given: dict[str, Input], tmp_path: Path) -> None:
    used = sorted({dim for declared in given.values() for dim in declared.shape if isinstance(dim, str)})
    model = Model(name, {"_target_": f"tests.unit.models.op_forms.{name}"}, given, {symbol: Symbol(4, 24) for symbol in used})
    result = pipeline.run(Job(model, STAGES), tmp_path)
    assert (result.outcome, result.problems) == ("ok", ())
