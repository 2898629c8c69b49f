"""Modules with torch's control flow operators, small enough that what they become can be read."""

from __future__ import annotations

import torch
from torch._higher_order_ops.map import map as map_over
from torch._higher_order_ops.scan import scan
from torch._higher_order_ops.while_loop import while_loop

Tensor = torch.Tensor


class Everything(torch.nn.Module):
    """A branch and a loop over closed-over weights, a counted call, sizes and None among the results."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(3, 3)
        self.register_buffer("shift", torch.arange(3.0))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: Tensor, p: Tensor) -> dict[str, object]:
        self.calls.add_(1)
        chosen = torch.cond(p.sum() > 0, lambda x: self.linear(x).relu(), lambda x: self.linear(x) * 2 + self.shift, (x,))
        _, turned = while_loop(lambda i, a: i < 5, lambda i, a: (i + 1, a.sin() + self.shift), (torch.tensor(0), chosen))
        return {"chosen": chosen, "rest": [turned, None, x.shape[0] * 2, x.shape[0] ** 2]}


class Scan(torch.nn.Module):
    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        def step(h: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
            h = torch.tanh(h + x)
            return h, h * 2

        return scan(step, h, x)


class Map(torch.nn.Module):
    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return map_over(lambda row, w: row.sin() @ w, x, w)


class BranchInLoop(torch.nn.Module):
    def forward(self, x: Tensor, turns: Tensor) -> Tensor:
        def turn(n: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
            return n - 1, torch.cond(x.sum() > 0, lambda x: x - 1, lambda x: x * 2 + 1, (x,))

        return while_loop(lambda n, x: n > 0, turn, (turns, x))[1]


class Lengths(torch.nn.Module):
    """A loop over a dynamic dim: its number is an int, by which it reads one tensor and writes to another."""

    def forward(self, x: Tensor) -> tuple[int, Tensor, Tensor]:
        def turn(i: int, h: Tensor, out: Tensor) -> tuple[int, Tensor, Tensor]:
            h = torch.tanh(h + torch.select(x, 1, i))
            return i + 1, h, torch.select_scatter(out, h, 1, i)

        return while_loop(lambda i, h, out: i < x.shape[1], turn, (0, torch.zeros_like(x[:, 0]), torch.zeros_like(x)))  # type: ignore[no-any-return]


class BranchOnSize(torch.nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cond(x.shape[0] > 4, lambda x: x.sin(), lambda x: x.cos(), (x,))


class OpsInBranches(torch.nn.Module):
    """Ops that must be decomposed, inside branches: attention with a causal mask, a remainder of negative numbers."""

    def forward(self, x: Tensor) -> Tensor:
        def attend(x: Tensor) -> Tensor:
            return torch.nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True)

        return torch.cond(x.sum() > 0, attend, lambda x: torch.remainder(x, 0.3), (x,))
