"""torch's control flow down the whole ladder: mhlo.if and mhlo.while with dynamic dims, and the numbers of eager."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lowering import pipeline
from lowering.errors import Problem
from lowering.ir import mlir
from lowering.job import Job
from lowering.legalize import driver
from lowering.model import Input, Model, Symbol
from lowering.signature import Argument, Result, Signature
from lowering.sizes.ranges import Bound
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from lowering.stages.verify import Verify
from lowering.torchscript import text

STAGES = {"export": Export(), "torchscript": ToTorchScript(deployable=False), "torch": ToTorchDialect(), "stablehlo": ToStableHLO(),
          "mhlo": ToMHLO(), "verify": Verify(points=3)}  # fmt: skip

SEQUENCE = Input("float32", ("seq", "batch", 3))
ROWS = Input("float32", ("batch", 3))


@pytest.mark.parametrize(("name", "given", "ops"), [
    ("Everything", {"x": ROWS, "p": Input("float32", (4,))}, {"mhlo.if", "mhlo.while"}),
    ("Scan", {"x": SEQUENCE, "h": ROWS}, {"mhlo.while"}),
    ("Map", {"x": SEQUENCE, "w": Input("float32", (3, 5))}, {"mhlo.while"}),
    ("BranchInLoop", {"x": ROWS, "turns": Input("int64", (), {"randint": [1, 5]})}, {"mhlo.if", "mhlo.while"}),
    ("Lengths", {"x": Input("float32", ("batch", "seq", 3))}, {"mhlo.while"}),
    ("BranchOnSize", {"x": ROWS}, {"mhlo.if"}),
    ("OpsInBranches", {"x": Input("float32", ("batch", 2, "seq", 4))}, {"mhlo.if"}),
])
def test_reaches_mhlo_with_the_numbers_of_eager(name: str, given: dict[str, Input], ops: set[str], tmp_path: Path) -> None:
    used = {dim for declared in given.values() for dim in declared.shape if isinstance(dim, str)}
    model = Model(name, {"_target_": f"tests.unit.models.control_models.{name}"}, given, {symbol: Symbol(2, 24) for symbol in sorted(used)})
    result = pipeline.run(Job(model, STAGES), tmp_path)
    assert (result.outcome, result.problems) == ("ok", ())
    assert ops <= set(result.stages[4].ops)
    script = (tmp_path / "02-torchscript.ts").read_text()
    assert str(text.parse(script)) == script
    assert "?" in (tmp_path / "05-mhlo.mhlo.mlir").read_text().split("->")[0]


def test_functions_of_sizes_keep_the_numbers_of_eager(tmp_path: Path) -> None:
    given = {"x": Input("float32", ("batch", "seq")), "y": Input("float32", ("other", 2))}
    model = Model("sizes", {"_target_": "tests.filecheck.torchscript.sizes.Case"}, given,
                  {name: Symbol(2, 24) for name in ("batch", "other", "seq")})
    result = pipeline.run(Job(model, STAGES), tmp_path)
    assert (result.outcome, result.problems) == ("ok", ())


GROWING = """
func.func @main(%x: tensor<?x3xf32>, %n: tensor<i64>) -> tensor<?x3xf32> {
  %zero = arith.constant 0 : index
  %one = arith.constant 1 : index
  %count = tensor.extract %n[] : tensor<i64>
  %stop = arith.index_cast %count : i64 to index
  %out = scf.for %i = %zero to %stop step %one iter_args(%a = %x) -> (tensor<?x3xf32>) {
    %b = stablehlo.concatenate %a, %x, dim = 0 : (tensor<?x3xf32>, tensor<?x3xf32>) -> tensor<?x3xf32>
    scf.yield %b : tensor<?x3xf32>
  }
  return %out : tensor<?x3xf32>
}
"""


def test_a_loop_that_grows_a_tensor_is_refused_with_both_sizes() -> None:
    arguments: Any = (Argument("input", "x", "float32", ("batch", 3)), Argument("input", "n", "int64", ()))
    signature = Signature(arguments, (Result("output", "y"),), {"batch": Bound(1, 8)})
    problems: list[Problem] = driver.legalize(mlir.parse(GROWING, mlir.create_torch_context()), signature)
    assert ["its carried value 1 has size" in problem.cause and "batch" in problem.cause for problem in problems] == [True]
    assert "loop at" in problems[0].place
