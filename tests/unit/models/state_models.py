"""Modules with states: a buffer, an argument that is written to, and one whose new value is returned."""

from __future__ import annotations

from typing import Any

import torch

from lowering.model import Input, Model, Symbol


class Counting(torch.nn.Module):
    """Adds x to a row of `sums`, in place, and to `total`, which it returns; counts its calls in a buffer."""

    steps: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def forward(self, x: torch.Tensor, state: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        self.steps.add_(1)
        state["sums"].add_(x)
        total = state["total"] + x
        return total * 2 + self.steps, {"total": total, "sums": state["sums"]}


X = Input("float32", ("batch", 4))
NEW = {"state": "1", "sums": X, "total": X}  # the results are a tuple, and its second element has the new values


def model(state: Any = None) -> Model:
    return Model("counting", {"_target_": f"{__name__}.Counting"}, {"x": X, "state": NEW if state is None else state}, {"batch": Symbol(1, 64)})
