"""Dynamic broadcasts say which dims they repeat, where the ranges of the symbols decide it, at every level below."""

from __future__ import annotations

from lowering.ir import mlir, portable
from lowering.legalize import driver
from lowering.signature import Argument, Result, Signature
from lowering.sizes.ranges import Bound

TEXT = """
func.func @main(%x: tensor<?x1x1x?xf32>, %y: tensor<?x?x?x?xf32>) -> tensor<?x?x?x?xf32> {
  %0 = shape.shape_of %y : tensor<?x?x?x?xf32> -> tensor<4xindex>
  %1 = stablehlo.dynamic_broadcast_in_dim %x, %0, dims = [0, 1, 2, 3] : (tensor<?x1x1x?xf32>, tensor<4xindex>) -> tensor<?x?x?x?xf32>
  %2 = stablehlo.exponential %1 : tensor<?x?x?x?xf32>
  return %1 : tensor<?x?x?x?xf32>
}"""


def test_dims_that_the_symbols_decide_are_marked() -> None:
    signature = Signature(
        (Argument("input", "x", "float32", ("batch", 1, 1, "other")), Argument("input", "y", "float32", ("batch", "wide", "any", "last"))),
        (Result("output", "out", "float32", ("batch", "wide", "any", "last")),),
        {"batch": Bound(1, 8), "wide": Bound(2, 8), "any": Bound(1, 8), "last": Bound(2, 8), "other": Bound(1, 8)},
    )
    module = mlir.parse(TEXT, mlir.create_torch_context())
    assert not driver.legalize(module, signature)
    marks = "{known_expanding_dimensions = array<i64: 1>, known_nonexpanding_dimensions = array<i64: 0>}"
    assert f"dims = [0, 1, 2, 3] {marks}" in mlir.text(module)  # dim 2 may be 1, and dim 3 may be either
    mhlo = portable.to_hlo(module)
    mlir.run(mhlo, portable.TO_MHLO, "mhlo")
    assert "known_expanding_dimensions = dense<1>" in mlir.text(mhlo)


def test_a_broadcast_that_only_makes_a_dim_static_stays_one_at_mhlo() -> None:
    text = """
func.func @main(%x: tensor<?x?xf32>) -> tensor<?x20xf32> {
  %c20 = arith.constant 20 : index
  %c0 = arith.constant 0 : index
  %n = tensor.dim %x, %c0 : tensor<?x?xf32>
  %0 = tensor.from_elements %n, %c20 : tensor<2xindex>
  %1 = stablehlo.dynamic_broadcast_in_dim %x, %0, dims = [0, 1] : (tensor<?x?xf32>, tensor<2xindex>) -> tensor<?x20xf32>
  %2 = stablehlo.exponential %1 : tensor<?x20xf32>
  return %2 : tensor<?x20xf32>
}"""
    signature = Signature(
        (Argument("input", "x", "float32", ("batch", "length")),), (Result("output", "out", "float32", ("batch", 20)),),
        {"batch": Bound(1, 8), "length": Bound(20, 20)},
    )  # fmt: skip
    module = mlir.parse(text, mlir.create_torch_context())
    assert not driver.legalize(module, signature)
    mhlo = portable.to_hlo(module)
    mlir.run(mhlo, portable.TO_MHLO, "mhlo")
    assert "mhlo.dynamic_broadcast_in_dim" in mlir.text(mhlo)
    assert "tensor.cast" not in mlir.text(mhlo)
