"""Values at the limits of dtypes."""

from __future__ import annotations

import torch

NAN, INF = float("nan"), float("inf")
VALUES = torch.tensor([0.0, -0.0, 1.0, -1.0, 0.1, -0.1, 0.3, 2.5, -7.3, 1e-3, 1e10, INF, -INF, NAN])
INTS = torch.tensor([0, 1, -1, 7, -7, 100, -100, 2**31 - 1])
BYTES = torch.tensor([0, 1, 2, 3, 7, 100, 128, 200, 255], dtype=torch.uint8)


def pairs(left: torch.Tensor, right: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Every element of one with every element of the other."""
    both = torch.cartesian_prod(left, right)
    return both[:, 0].contiguous(), both[:, 1].contiguous()
