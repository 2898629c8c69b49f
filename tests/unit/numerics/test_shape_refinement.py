"""Refinement of a program to the sizes of its arguments."""

from __future__ import annotations

import pytest
import torch

from lowering.errors import Unsupported
from lowering.numerics.running import shape_refinement

BRANCHES = """module { func.func public @main(%p: tensor<i1>, %x: tensor<?xf32>, %y: tensor<?xf32>) -> tensor<?xf32> {
  %0 = "stablehlo.if"(%p) ({ stablehlo.return %x : tensor<?xf32> }, { stablehlo.return %y : tensor<?xf32> }) : (tensor<i1>) -> tensor<?xf32>
  return %0 : tensor<?xf32>
} }"""


def test_branches_whose_results_have_different_sizes_are_refused_as_sizes_of_data() -> None:
    def refine(left: int, right: int) -> bytes:
        return shape_refinement.refine(BRANCHES, [(torch.bool, ()), (torch.float32, (left,)), (torch.float32, (right,))])

    assert refine(3, 3)
    with pytest.raises(Unsupported, match="XLA computes sizes from the sizes of arguments, none from data"):
        refine(3, 4)
