"""CHLO's ops in a StableHLO source: what they become gives what CHLO defines, also where a dim broadcasts at run time."""

from __future__ import annotations

import pytest
import torch

from lowering.ir import mlir, portable
from lowering.legalize import chlo_ops
from lowering.numerics.running.xla import Xla
from lowering.signature import Argument, Signature
from lowering.sizes.ranges import Bound

PROGRAM = """
func.func @main(%a: tensor<?x4xf32>, %b: tensor<?x1xf32>, %c: tensor<4xf32>) -> (tensor<?x4xf32>, tensor<?x4xf32>) {
  %sum = call @add(%a, %b) : (tensor<?x4xf32>, tensor<?x1xf32>) -> tensor<?x4xf32>
  %product = chlo.broadcast_multiply %sum, %c : (tensor<?x4xf32>, tensor<4xf32>) -> tensor<?x4xf32>
  %large = chlo.broadcast_compare %product, %b {comparison_direction = #chlo<comparison_direction GT>}
    : (tensor<?x4xf32>, tensor<?x1xf32>) -> tensor<?x4xi1>
  %chosen = chlo.broadcast_select %large, %product, %b : (tensor<?x4xi1>, tensor<?x4xf32>, tensor<?x1xf32>) -> tensor<?x4xf32>
  %erf = chlo.erf %chosen : tensor<?x4xf32> -> tensor<?x4xf32>
  %sinh = chlo.asinh %chosen : tensor<?x4xf32> -> tensor<?x4xf32>
  return %erf, %sinh : tensor<?x4xf32>, tensor<?x4xf32>
}
func.func private @add(%a: tensor<?x4xf32>, %b: tensor<?x1xf32>) -> tensor<?x4xf32> {
  %0 = chlo.broadcast_add %a, %b : (tensor<?x4xf32>, tensor<?x1xf32>) -> tensor<?x4xf32>
  return %0 : tensor<?x4xf32>
}
"""
ARGUMENTS = (Argument("input", "a", "float32", ("n", 4)), Argument("input", "b", "float32", ("m", 1)),
             Argument("input", "c", "float32", (4,)))


@pytest.fixture(scope="module")
def lowered() -> str:
    module = mlir.parse(PROGRAM, mlir.create_torch_context())
    assert chlo_ops.list_expanded(module) == ["chlo.asinh", "chlo.broadcast_add", "chlo.broadcast_compare", "chlo.broadcast_multiply",
                                              "chlo.broadcast_select"]  # fmt: skip
    assert chlo_ops.expand(module, Signature(ARGUMENTS, (), {"n": Bound(1, 8), "m": Bound(1, 8)})) == []
    assert chlo_ops.list_expanded(module) == []
    made = portable.to_hlo(module)
    mlir.run(made, portable.TO_MHLO, "mhlo")
    assert not mlir.list_impurities(made, ("func", "mhlo", "builtin"))
    return mlir.text(made, elide=None)


@pytest.mark.parametrize(("rows", "others"), [(1, 5), (5, 1), (3, 3), (1, 1)])
def test_broadcasts_of_sizes_that_only_the_run_tells(lowered: str, rows: int, others: int) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b, c = (torch.randn(*shape, generator=generator) for shape in ((rows, 4), (others, 1), (4,)))
    product = (a + b) * c
    chosen = torch.where(product > b, product, b)
    erf, sinh = Xla().run(lowered, [a, b, c])
    torch.testing.assert_close(erf, torch.erf(chosen))
    torch.testing.assert_close(sinh, torch.asinh(chosen))
