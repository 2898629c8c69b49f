"""Models made of the library's ops. They call `torch.ops.fused.*` and do not care who registered them."""

from __future__ import annotations

import torch
from torch import nn


class Tagger(nn.Module):
    """ids (batch, seq), mask (batch, seq), factors (batch) -> states (batch, seq, width), and scores of the tokens that the mask keeps."""

    def __init__(self, words: int, width: int, tags: int):
        super().__init__()
        self.tables = nn.ParameterList(nn.Parameter(torch.randn(words, width)) for _ in range(2))
        self.bias = nn.Parameter(torch.randn(width))
        self.weight = nn.Parameter(1 + 0.1 * torch.randn(width))
        self.tags = nn.Linear(width, tags)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, factors: torch.Tensor) -> dict[str, torch.Tensor]:
        states = torch.ops.fused.gather_rows(list(self.tables), ids, self.bias, "sum")
        torch.ops.fused.scale_rows_(states, factors)
        states = torch.ops.fused.rms_norm(states, self.weight, 1e-5)
        kept, places = torch.ops.fused.keep_rows(states.flatten(0, 1), mask.flatten())
        return {"states": states, "scores": self.tags(kept), "places": places}


class NormedMLP(nn.Module):
    """(batch, width) -> (batch, width): a residual block with the fused norm."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = nn.Parameter(1 + 0.1 * torch.randn(width))
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        normed = torch.ops.fused.rms_norm(features, self.weight)
        return features + self.down(nn.functional.silu(self.up(normed)))


class LayerNormMLP(nn.Module):
    """(batch, width) -> (batch, width), with PyTorch's own layer norm."""

    def __init__(self, width: int):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.down = nn.Linear(width, width)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features + self.down(self.norm(features))
