"""Models with a limit planted in them, which a probe must find."""

from __future__ import annotations

import torch


class Table(torch.nn.Module):
    """Has 32 positions; nothing but a run at 33 shows it."""

    def __init__(self) -> None:
        super().__init__()
        self.positions = torch.nn.Embedding(32, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.positions(torch.arange(x.shape[1]))


class Fours(torch.nn.Module):
    """Takes multiples of 4."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(x.shape[0], -1, 4, 4).sum(2)


class Branch(torch.nn.Module):
    """Does something else above 1,000."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[1] > 1000:
            return x * 2
        return x + 1
