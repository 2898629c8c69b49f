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


class Step(torch.nn.Module):
    """A step with a cache that grows, in which two heads of queries share keys. The mask has a dim for each key."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.out = torch.nn.Embedding(16, 16), torch.nn.Linear(16, 8)

    def forward(self, token: torch.Tensor, mask: torch.Tensor, keys: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = self.embed(token)
        keys = torch.cat([keys, self.out(x).unflatten(-1, (2, 4)).transpose(1, 2)], 2)
        if mask.shape[1] < keys.shape[2]:  # as transformers asks
            mask = torch.nn.functional.pad(mask, (0, keys.shape[2] - mask.shape[1]))
        query = x.unflatten(-1, (4, 4)).transpose(1, 2)
        shared = keys[:, :, None].expand(-1, -1, 2, -1, -1).reshape(token.shape[0], 4, keys.shape[2], 4)
        return torch.nn.functional.scaled_dot_product_attention(query, shared, shared, mask[:, None, None, :] > 0), keys


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
