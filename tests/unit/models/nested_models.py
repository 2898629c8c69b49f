"""A module of nested arguments and results, written by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import torch

from lowering.model import Input, Model, Symbol


@dataclass
class State:
    """Registered with torch, as a user of torch.export does."""

    hidden: list[torch.Tensor]
    scale: torch.Tensor


@dataclass
class Unregistered:
    x: torch.Tensor


class Pair(NamedTuple):
    first: torch.Tensor
    second: torch.Tensor


torch.export.register_dataclass(State)


class Nested(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = torch.nn.Linear(4, 4)

    def forward(self, state: State, batch: dict[str, Any], pair: Pair, options: torch.Tensor | None = None) -> dict[str, Any]:
        made = self.up(state.hidden[0]) + batch["x"]["left"]
        if batch["mode"] == "double":
            made = made * 2
        shifted = made if options is None else made + options
        hidden = [made * state.scale, state.hidden[1] + pair.first.sum()]
        return {"shifted": shifted, "state": State(hidden, state.scale + 1), "pair": (pair.second - 1, [shifted.sum(0)])}

    def scale(self, x: torch.Tensor) -> torch.Tensor:
        """Another entry."""
        return x * 3


class Inheriting(Nested):
    """Takes what its base class does, which its own source does not show."""


X = Input("float32", ("batch", 4))
INPUTS: dict[str, Any] = {
    "state": {"_target_": f"{__name__}.State", "hidden": [X, X], "scale": Input("float32")},
    "batch": {"x": {"left": X, "right": None}, "mode": "double"},
    "pair": {"_target_": f"{__name__}.Pair", "first": Input("float32", (None,)), "second": Input("float32", ("count", 2))},
    "options": None,
}
SYMBOLS = {"batch": Symbol(1, 8), "count": Symbol(1, 9, multiple_of=3)}


def model(**changes: Any) -> Model:
    return Model("nested", {"_target_": f"{__name__}.Nested"}, {**INPUTS, **changes}, SYMBOLS)
