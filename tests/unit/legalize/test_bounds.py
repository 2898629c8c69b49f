"""Upper bounds in the argument types of an MHLO program: known ones are written, unknown ones are `?`, static arguments stay."""

from __future__ import annotations

from lowering.ir import mlir
from lowering.legalize import bounds
from lowering.signature import Argument, Signature
from lowering.sizes.ranges import Bound

TEXT = """
func.func @main(%w: tensor<4xf32>, %x: tensor<?x?x4xf32>, %y: tensor<?x4xf32>) -> tensor<?x4xf32> {
  %0 = mhlo.add %y, %y : tensor<?x4xf32>
  return %y : tensor<?x4xf32>
}
"""


def test_bounds_are_written_where_they_are_known() -> None:
    module = mlir.parse(TEXT, mlir.create_hlo_context())
    arguments = (Argument("parameter", "w", "float32", (4,)), Argument("input", "x", "float32", ("b", "2*s + 1", 4)),
                 Argument("input", "y", "float32", ("n", 4)))  # fmt: skip
    bounds.write(module, Signature(arguments, (), {"b": Bound(1, 64), "s": Bound(2, 10), "n": Bound(1, None)}))
    assert module.operation.verify()
    assert "%arg1: tensor<?x?x4xf32, #mhlo.type_extensions<bounds = [64, 21, ?]>>" in mlir.text(module)
    assert "%arg0: tensor<4xf32>" in mlir.text(module) and "%arg2: tensor<?x4xf32>" in mlir.text(module)


def test_an_argument_that_is_returned_keeps_its_bound_in_the_result() -> None:
    module = mlir.parse(TEXT, mlir.create_hlo_context())
    arguments = (Argument("parameter", "w", "float32", (4,)), Argument("input", "x", "float32", ("b", "b", 4)),
                 Argument("input", "y", "float32", ("b", 4)))  # fmt: skip
    bounds.write(module, Signature(arguments, (), {"b": Bound(1, 64)}))
    assert module.operation.verify()
    assert "-> tensor<?x4xf32, #mhlo.type_extensions<bounds = [64, ?]>>" in mlir.text(module)
