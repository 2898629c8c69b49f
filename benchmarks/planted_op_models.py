"""Small models in which benchmarks.planted exchanges single ops and attributes.

They have windows, square matrices, integers, special floats and empty dims.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.planted_models import declare
from lowering.model import Input, Model, Symbol


class Windows(nn.Module):
    """Slices, padding and concatenation by sizes."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"tail": x[1:], "head": x[:-1], "half": x[x.shape[0] // 2 :], "flipped": x.flip(0), "shifted": torch.cat([x[-1:], x[:-1]]),
                "padded": functional.pad(x, (1, 2), value=3.0), "joined": torch.cat([x, x * 2], 1), "strided": x[::2]}  # fmt: skip


class Square(nn.Module):
    """Matrices whose two dims have one size."""

    def forward(self, x: Tensor, v: Tensor) -> dict[str, Tensor]:
        return {"columns": x.sum(0), "rows": x.sum(1), "gram": x.mT @ x, "across": x * v, "down": x - v[:, None], "lower": x.tril(),
                "turned": x.mT.contiguous()}


class Integers(nn.Module):
    """Integers of both signs: division, shifts, indices, ties, and products beyond 32 bits."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("table", torch.arange(20.0) ** 2)

    def forward(self, k: Tensor) -> dict[str, Tensor]:
        return {"floor": k // 3, "truncated": torch.div(k, 3, rounding_mode="trunc"), "shifted": k >> 1, "looked": self.table[k],
                "least": (k % 4).argmin(0),
                "product": k * 3_000_000_019, "below": k < 2, "total": (k * 1_000_000_007).sum(0)}  # fmt: skip


class Floats(nn.Module):
    """Roundings, signs of zero, NaN and infinities."""

    def forward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        sign = torch.copysign(torch.ones_like(x), -(x.nan_to_num() * 0))
        return {"larger": torch.maximum(x, y), "sign": sign, "short": (x * 1.001).bfloat16(), "clamped": x.clamp(-0.5, 0.75),
                "floored": (y * 3).floor(),
                "any": (x > 2).any(1), "root": x.sqrt()}  # fmt: skip


class Whole(nn.Module):
    """Makes integers of floats. NaN and infinities, which have none, are not compared."""

    def forward(self, x: Tensor) -> Tensor:
        return (x * 4).to(torch.int32)


class Empty(nn.Module):
    """Reductions over a dim that may be empty."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"sum": x.sum(0), "product": x.prod(0), "mean": x.mean(0), "all": (x < 3).all(0),
                "least": torch.cat([x, torch.ones(1, 4)]).amin(0)}


class Guarded(nn.Module):
    """Takes a branch by a size."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cond(x.shape[0] > 8, lambda value: value * 2, lambda value: value - 1, (x,))


class Counts(nn.Module):
    """Products of sizes that are beyond 32 bits at the largest sizes."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        count = x.shape[0] * x.shape[1] * x.shape[0]
        return {"count": torch.full((1,), count), "share": x.sum() / count}


class Padded(nn.Module):
    """Sums over a dim that buckets pad."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"sum": x.sum(0), "last": x[:, -1:] + x.sum(1, keepdim=True), "scaled": x * torch.arange(x.shape[0])[:, None]}


_ROWS = Symbol(2, 32)
_SIGNED = Input("int64", ("k",), {"randint": [-8, 8]})

MODELS: dict[str, Model] = {model.name: model for model in (
    declare(Windows, {"x": Input("float32", ("n", 4))}, {"n": _ROWS}),
    declare(Square, {"x": Input("float32", ("n", "n")), "v": Input("float32", ("n",))}, {"n": Symbol(1, 32)}),
    declare(Integers, {"k": _SIGNED}, {"k": Symbol(1, 32)}),
    declare(Floats, {"x": Input("float32", ("n", 4)), "y": Input("float32", ("n", 4))}, {"n": Symbol(1, 32)}),
    declare(Whole, {"x": Input("float32", ("n", 4))}, {"n": Symbol(1, 32)}),
    declare(Empty, {"x": Input("float32", ("n", 4))}, {"n": Symbol(0, 32)}),
    declare(Guarded, {"x": Input("float32", ("n", 4))}, {"n": Symbol(2, 32)}),
    declare(Padded, {"x": Input("float32", ("n", 4))}, {"n": Symbol(1, 16)}, buckets={"n": (4, 16)}),
    declare(Counts, {"x": Input("float32", ("n", "m"))}, {"n": Symbol(1, 1 << 16), "m": Symbol(1, 1 << 10)}),
)}  # fmt: skip
