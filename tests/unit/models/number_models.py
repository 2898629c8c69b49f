"""Models whose forward takes Python numbers beside tensors."""

from __future__ import annotations

import torch


class Crop(torch.nn.Module):
    """(batch, 40) and an int -> its first `columns`, and what an int can do to sizes and values."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(40, 40)

    def forward(self, x: torch.Tensor, columns: int) -> dict[str, torch.Tensor | int | float | bool]:
        cropped = self.linear(x)[:, :columns]
        return {"cropped": cropped * columns, "mean": cropped.sum() / columns, "made": x.new_ones(columns, x.shape[1]),
                "next": columns + 1, "half": columns // 2, "third": columns / 3, "many": columns > 4,
                "area": columns * x.shape[0]}  # fmt: skip


class Temperature(torch.nn.Module):
    """(batch, 8), a float and a bool: scaled, and masked where the bool says so."""

    def forward(self, x: torch.Tensor, scale: float, masked: bool) -> tuple[torch.Tensor, float, torch.Tensor, bool]:
        return x / scale, scale * 2, x * masked, masked


class Unrolled(torch.nn.Module):
    """As many turns as the int says: the export fixes it."""

    def forward(self, x: torch.Tensor, turns: int) -> torch.Tensor:
        for _ in range(turns):
            x = x + 1
        return x
