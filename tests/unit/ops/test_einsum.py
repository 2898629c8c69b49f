"""An einsum of several operands is contracted in the order that is cheapest at the traced sizes, and is right at all."""

from __future__ import annotations

import torch
from torch.export import Dim

import shapeline


class Adapter(torch.nn.Module):
    """A low-rank update of 64 features by rank 2: no product of the two factors, 64 by 64, is made."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = (torch.nn.Parameter(torch.randn(*shape)) for shape in ((64, 2), (2, 64)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.einsum("or,ri,bti->bto", self.up, self.down, x)


def test_the_order_is_the_cheapest_at_the_traced_sizes() -> None:
    dims = {0: Dim("batch", min=1, max=4), 1: Dim("time", min=1, max=9)}
    lowered = shapeline.lower(Adapter(), (torch.randn(2, 5, 64),), dynamic_shapes=(dims,))
    assert "64x64" not in str(lowered.mlir["mhlo"])
    lowered.verify(3)
