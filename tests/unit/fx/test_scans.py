"""torch's associative scan over a dynamic dim is composed of as many steps as its largest size needs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch._higher_order_ops.associative_scan import associative_scan
from torch.export import Dim

import shapeline
from lowering.fx.tracing.scans import scan_by_doubling


def combine(earlier: Any, later: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Combine steps of a linear recurrence, factor and term each; the order counts."""
    return earlier[0] * later[0], later[0] * earlier[1] + later[1]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9])
def test_every_size_up_to_the_largest_gives_what_torch_gives(size: int) -> None:
    factors, terms = torch.rand(size, 3), torch.randn(size, 3)
    found = scan_by_doubling(lambda *leaves: combine(leaves[:2], leaves[2:]), (factors, terms), 9)
    torch.testing.assert_close(tuple(found), associative_scan(combine, (factors, terms), dim=0, combine_mode="generic"))


class Recurrence(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        state = associative_scan(combine, (x.sigmoid(), x), dim=1, combine_mode="generic")[1]
        return state, associative_scan(torch.maximum, x, dim=0, reverse=True, combine_mode="generic")


def test_scans_of_models_keep_their_dims() -> None:
    dims = {0: Dim("batch", min=1, max=4), 1: Dim("time", min=1, max=20)}
    shapeline.lower(Recurrence(), (torch.randn(3, 7, 2),), dynamic_shapes=(dims,)).verify(4)
