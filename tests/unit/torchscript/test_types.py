"""Types of results: a size that can have one value only is an int in all of them."""

from __future__ import annotations

import torch
from torch.nn import functional

import shapeline


class OnePlace(torch.nn.Module):
    """Small pictures, halved until one place is left of them, as the code asks. Tracing takes its size for 1 in some results only."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.norm = torch.nn.Conv2d(4, 4, 1), torch.nn.LayerNorm(4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        pooled = functional.max_pool2d(x, 8)
        if pooled.shape[-1] <= 1 and pooled.shape[-2] <= 1:
            pooled = pooled + functional.gelu(self.mix(pooled))
        places = pooled.flatten(2).transpose(1, 2)
        return self.norm(places), self.norm(pooled.permute(0, 2, 3, 1))


def test_a_size_with_one_value_is_static_in_operands_and_results() -> None:
    torch.manual_seed(0)
    symbols = {"batch": (1, 4), "height": {"min": 8, "max": 40, "example": 10}, "width": {"min": 8, "max": 15, "example": 9}}
    lowered = shapeline.lower(OnePlace(), (torch.randn(2, 4, 10, 9),), dynamic_shapes=({0: "batch", 2: "height", 3: "width"},), symbols=symbols)
    sizes = [point.point.sizes for point in lowered.verify(3).points]
    assert len({size["height"] for size in sizes}) > 1
    assert max(size["height"] for size in sizes) < 16
