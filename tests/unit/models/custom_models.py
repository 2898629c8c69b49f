"""Ops registered from Python in namespace `trial`, one for each kind of argument and result, and models that call them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

LIBRARY = torch.library.Library("trial", "DEF")


def _op(schema: str, kernel: Callable[..., Any], fake: Callable[..., Any] | None = None) -> None:
    name = schema.partition("(")[0]
    LIBRARY.define(schema)
    LIBRARY.impl(name, kernel, "CPU")
    if fake is not None:
        torch.library.register_fake(f"trial::{name}", fake, lib=LIBRARY)


def _every(
    x: Tensor, n: int, flip: bool, w: list[float], names: list[str], flags: list[bool], sizes: list[int], by: float, maybe: Tensor | None,
    *, mode: str, dtype: torch.dtype, device: torch.device | None = None, dims: list[int] | None = None,
) -> Tensor:
    assert (names, flags, maybe, mode, device, dims) == (["a", "b"], [True, False], None, "sum", None, [0, -1])
    scaled = x * (w[0] + w[1]) * by + n + len(sizes) + sizes[0]
    return (scaled.flip(0) if flip else scaled).to(dtype)


def _count(x: Tensor) -> int:
    return int((x > 0).sum())


def _bump(x: Tensor, ys: list[Tensor], z: Tensor | None = None) -> Tensor:
    x.add_(1)
    for y in ys:
        y.mul_(2)
    return x.sum(1)


_op("every(Tensor x, SymInt n, bool flip, float[] w, str[] names, bool[] flags, SymInt[] sizes, Scalar by, Tensor? maybe, *, str mode, "
    "ScalarType dtype, Device? device=None, int[]? dims=None) -> Tensor", _every,
    lambda x, *rest, dtype, **named: x.new_empty(x.shape, dtype=dtype))
_op("split(Tensor x) -> Tensor[]", lambda x: [x + 1, x.sum(0)], lambda x: [torch.empty_like(x), x.new_empty(x.shape[1:])])
_op("pair(Tensor x, Tensor?[] ys) -> (Tensor, Tensor[])", lambda x, ys: (x * 2, [y + 1 for y in ys if y is not None]),
    lambda x, ys: (torch.empty_like(x), [torch.empty_like(y) for y in ys if y is not None]))
_op("repeat(Tensor x, SymInt n) -> Tensor", lambda x, n: x.repeat(n, 1), lambda x, n: x.new_empty(x.shape[0] * n, x.shape[1]))
_op("bump_(Tensor(a!) x, Tensor(b!)[] ys, Tensor(c!)? z=None) -> Tensor", _bump, lambda x, ys, z=None: x.new_empty(x.shape[0]))
_op("count(Tensor x) -> SymInt", _count, lambda x: torch.library.get_ctx().new_dynamic_size())
_op("positive(Tensor x) -> Tensor", lambda x: x[x > 0], lambda x: x.new_empty(torch.library.get_ctx().new_dynamic_size()))
_op("log(Tensor x) -> ()", lambda x: None, lambda x: None)
_op("turn(Tensor x, complex by) -> Tensor", lambda x, by: x * by.real, lambda x, by: torch.empty_like(x))
_op("nameless(Tensor x) -> Tensor", lambda x: x + 1)
_op("liar(Tensor x) -> Tensor", lambda x: x[:1].clone(), lambda x: torch.empty_like(x))
_op("picky(Tensor x) -> Tensor", lambda x: _refuse() if len(x) > 2 else x + 1, lambda x: torch.empty_like(x))


def _refuse() -> Tensor:
    raise ValueError("no more than two rows, please")


class Every(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        rows, columns = x.shape
        return torch.ops.trial.every(x, rows, True, [0.5, 1.5], ["a", "b"], [True, False], [columns, 3], 2, None,
                                     mode="sum", dtype=torch.float64, dims=[0, -1])


class Several(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        first, second = torch.ops.trial.split(x)
        doubled, (third, fourth) = torch.ops.trial.pair(x, [x, None, x[0]])
        return first, second, doubled, third, fourth, torch.ops.trial.repeat(x, x.shape[1] + 1)


class Writes(nn.Module):
    """Writes a view, and a list of tensors that are used before and after."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        whole, left, right = x + 1, x * 3, x * 4
        before = left + right
        sums = torch.ops.trial.bump_(whole[:, 1:3], [left, right])
        return before, whole, left, right, sums


class FromData(nn.Module):
    """Two sizes that only data tells, the second computed from the first."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        kept = torch.ops.trial.positive(x)
        again = torch.ops.trial.positive(kept * 2 - 1)
        return kept + 1, again.sum(), x * torch.ops.trial.count(x)


class Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, lambda x: torch.ops.trial.repeat(x, x.shape[1]).sum(), lambda x: x.sum() * 2, (x,))


class Logs(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        torch.ops.trial.log(x)
        return x + 1


class Complex(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.trial.turn(x, 2 + 1j)


class Nameless(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.trial.nameless(x)


class Unknown(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.trial.positiv(x)


class Liar(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.trial.liar(x)


class Picky(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.ops.trial.picky(x)


class Gelu(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.gelu(x, approximate="tanh") + 1
