"""Models whose export does, or does not, depend on the declared ranges."""

from __future__ import annotations

import torch
from torch.fx.experimental.symbolic_shapes import statically_known_true


class Attention(torch.nn.Module):
    """One head over a padded sequence, whose two dims are those of both inputs. Nothing depends on the ranges."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.out = torch.nn.Embedding(16, 8), torch.nn.Linear(8, 4)

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = self.embed(tokens)
        scores = (x @ x.transpose(1, 2)).masked_fill(mask[:, None, :] == 0, -1e9)
        return self.out(scores.softmax(-1) @ x)


class KnownShort(torch.nn.Module):
    """Takes another way where the declared range itself says that the input is short, as torch's own ops do."""

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        if statically_known_true(tokens.shape[1] <= 100):
            return mask * 2 + tokens
        return mask + mask + tokens


class LongInputs(torch.nn.Module):
    """Branches on a length, which narrower ranges decide."""

    def forward(self, tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return tokens * mask if tokens.shape[1] > 100 else tokens + mask
