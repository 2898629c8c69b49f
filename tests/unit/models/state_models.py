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
    return Model("counting", {"_target_": f"{__name__}.Counting"}, {"x": X, "state": NEW if state is None else state},
                 {"batch": Symbol(1, 64)})


class Growing(torch.nn.Module):
    """A step sees the embeddings of all tokens before it, and returns them with its own."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(16, 4)

    def forward(self, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
        seen = self.embedding(input_ids)
        return {"logits": (seen.cumsum(1) @ self.embedding.weight.T), "seen": seen}

    def step(self, input_ids: torch.Tensor, seen: torch.Tensor) -> dict[str, torch.Tensor]:
        seen = torch.cat([seen, self.embedding(input_ids)], 1)
        return {"logits": seen.sum(1, keepdim=True) @ self.embedding.weight.T, "seen": seen}


def growing() -> tuple[Model, Model]:
    """Its entries."""
    factory = {"_target_": f"{__name__}.Growing"}
    batch, past = Symbol(1, 8), Symbol(1, 64)
    ids = {"randint": [0, 16]}
    prefill = Model("growing", factory, {"input_ids": Input("int64", ("batch", "seq"), ids)}, {"batch": batch, "seq": past},
                    entry="prefill")
    inputs: dict[str, Any] = {"input_ids": Input("int64", ("batch", 1), ids), "seen": Input("float32", ("batch", "past", 4))}
    return prefill, Model("growing", factory, inputs, {"batch": batch, "past": past}, method="step", entry="decode")
