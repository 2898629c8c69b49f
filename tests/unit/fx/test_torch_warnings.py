"""Warnings of torch about its own code are silenced, and those about the model are not."""

from __future__ import annotations

import copy
import warnings

import pytest
import torch
from torch.utils import _pytree as pytree

import shapeline
from lowering.fx.tracing import torch_warnings


def test_a_copy_of_a_structure_warns_no_more() -> None:
    structure = pytree.tree_structure([1, {"a": 2}])
    with pytest.warns(FutureWarning, match="LeafSpec"):
        copy.deepcopy(structure)
    with warnings.catch_warnings(), torch_warnings.silence():
        copy.deepcopy(structure)


class Recurrent(torch.nn.Module):
    def __init__(self, keeps: bool) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList([torch.nn.GRU(4, 3)])
        self.keeps = keeps
        self.kept = torch.zeros(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        returned: torch.Tensor = self.layers[0](x)[0]
        if self.keeps:
            self.kept = returned[0, 0]
        return returned


@pytest.mark.parametrize("keeps", [False, True])
def test_only_a_tensor_that_the_model_assigns_is_warned_of(keeps: bool) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        shapeline.lower(Recurrent(keeps), (torch.randn(5, 3, 4),), dynamic_shapes=({1: torch.export.Dim("batch", min=1, max=8)},),
                        until="exported")
    assert any("self.kept" in str(warning.message) for warning in caught) is keeps
    assert keeps or not any("assigned during export" in str(warning.message) for warning in caught)
