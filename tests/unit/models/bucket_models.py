"""Models whose results do, or do not, depend on how their inputs are padded."""

from __future__ import annotations

import torch


class Totals(torch.nn.Module):
    """Padding with zeros changes neither the sums nor the rows."""

    def forward(self, x: torch.Tensor, count: int) -> dict[str, torch.Tensor]:
        return {"sum": x.sum(1), "rows": 2 * x, "numbers": torch.arange(count)}


class Spans(torch.nn.Module):
    """The result depends on the size of a row, and on no element of it but the first."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[:, 0] / x.shape[1]


class Largest(torch.nn.Module):
    """The largest element of a row may be one of its padding."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x.amax(1) + y.sum(1)


class Halves(torch.nn.Module):
    """Rows of two halves."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.view(x.shape[0], 2, x.shape[1] // 2).sum(2)
