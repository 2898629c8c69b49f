"""Operands of products in programs for one set of sizes, as XLA's CPU compiler is given them."""

from __future__ import annotations

import pytest
import torch

from lowering.ir import mlir
from lowering.numerics.running import orientation
from lowering.numerics.running.shape_refinement import context
from lowering.numerics.running.xla import Xla

# name, shapes of the operands, numbers, einsum, exchanged
PRODUCTS = {
    "weight": ((2, 3, 8), (64, 8), "contracting_dims = [2] x [1]", "bsk,nk->bsn", True),
    "keys": ((2, 3, 2, 1, 4), (2, 3, 9, 4), "batching_dims = [0, 1] x [0, 1], contracting_dims = [4] x [3]", "bhgqd,bhkd->bhgqk", True),
    "two free dims": ((2, 2, 4), (2, 3, 5, 4), "batching_dims = [0] x [0], contracting_dims = [2] x [3]", "bmk,bnpk->bmnp", True),
    "values": ((2, 3, 2, 9), (2, 3, 9, 40), "batching_dims = [0, 1] x [0, 1], contracting_dims = [3] x [2]", "bhqk,bhkd->bhqd", False),
    "one row": ((1, 8), (64, 8), "contracting_dims = [1] x [1]", "mk,nk->mn", False),
    "many rows": ((65, 8), (512, 8), "contracting_dims = [1] x [1]", "mk,nk->mn", False),
    "nothing contracted": ((2, 0), (64, 0), "contracting_dims = [1] x [1]", "mk,nk->mn", True),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_exchanged(name: str) -> None:
    left, right, numbers, einsum, is_exchanged = PRODUCTS[name]
    torch.manual_seed(0)
    given = [torch.randn(left), torch.randn(right)]
    wanted = torch.einsum(einsum, *given)
    types = [f"tensor<{''.join(f'{size}x' for size in shape)}f32>" for shape in (left, right, wanted.shape)]
    text = f"""func.func public @main(%l: {types[0]}, %r: {types[1]}) -> {types[2]} {{
      %0 = stablehlo.dot_general %l, %r, {numbers} : ({types[0]}, {types[1]}) -> {types[2]}
      return %0 : {types[2]}
    }}"""
    module = mlir.parse(text, context())
    with context():
        orientation.orient(module)
    assert module.operation.verify()
    first = next(op for op in mlir.walk_operations(module) if op.name == "stablehlo.dot_general").operands[0]
    assert first.type == (module.body.operations[0].arguments[1 if is_exchanged else 0]).type
    got = Xla().run(text, given)[0]
    torch.testing.assert_close(got, wanted)


def test_nan_in_a_maximum_beside_products() -> None:
    """The options that make products fast keep NaN in other ops."""
    text = """func.func public @main(%x: tensor<16x256xf32>, %w: tensor<64x256xf32>) -> (tensor<16xf32>, tensor<16x64xf32>) {
      %low = stablehlo.constant dense<0xFF800000> : tensor<f32>
      %one = stablehlo.constant dense<1.0> : tensor<16x256xf32>
      %most = stablehlo.maximum %x, %one : tensor<16x256xf32>
      %r = stablehlo.reduce(%most init: %low) applies stablehlo.maximum across dimensions = [1] :
        (tensor<16x256xf32>, tensor<f32>) -> tensor<16xf32>
      %d = stablehlo.dot_general %most, %w, contracting_dims = [1] x [1] : (tensor<16x256xf32>, tensor<64x256xf32>) -> tensor<16x64xf32>
      return %r, %d : tensor<16xf32>, tensor<16x64xf32>
    }"""
    x, w = torch.zeros(16, 256), torch.ones(64, 256)
    x[3, 5] = torch.nan
    most, product = Xla().run(text, [x, w])
    assert most.isnan().nonzero().flatten().tolist() == [3] and product.isnan().any(-1).nonzero().flatten().tolist() == [3]
