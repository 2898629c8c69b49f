"""A multilayer perceptron, small enough to read every level in a minute."""

from __future__ import annotations

import torch
from torch import nn


class MLP(nn.Module):
    """Maps (batch, width_in) to (batch, width_out), with one hidden layer and GELU."""

    def __init__(self, width_in: int, width_hidden: int, width_out: int):
        super().__init__()
        self.up = nn.Linear(width_in, width_hidden)
        self.down = nn.Linear(width_hidden, width_out)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return self.down(nn.functional.gelu(self.up(features)))
