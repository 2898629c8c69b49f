"""Cumulative ops, composed of steps of doubled length that every level supports.

Each element is combined with the one that is 1, 2, 4, ... places before it, as often as the largest size of the dim needs. A step that is
longer than the dim combines with the neutral element alone. A sum of n elements is so a tree of log2(n) levels, as exact as a pairwise sum.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import torch

from lowering.ops import symbolic

Tensor: TypeAlias = torch.Tensor

_LARGEST = 1 << 31  # of the sizes that the levels below hold
_HALVES = (torch.float16, torch.bfloat16)


def cumsum(tensor: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    """Return running sums along `dim`."""
    return _accumulate(tensor, dim, dtype, 0, torch.add)


def cumprod(tensor: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    """Return running products along `dim`."""
    return _accumulate(tensor, dim, dtype, 1, torch.mul)


def logcumsumexp(tensor: Tensor, dim: int) -> Tensor:
    """Return running log-sum-exps along `dim`."""
    return _accumulate(tensor, dim, tensor.dtype, -math.inf, torch.logaddexp)


def cummax(tensor: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return running maxima along `dim`, and the last index of each. The maximum stays NaN after the first NaN."""
    return _find_extremes(tensor, dim, torch.ge, "min")


def cummin(tensor: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return running minima along `dim`, and the last index of each. The minimum stays NaN after the first NaN."""
    return _find_extremes(tensor, dim, torch.le, "max")


def _find_extremes(tensor: Tensor, dim: int, beats: Callable[[Tensor, Tensor], Tensor], end: str) -> tuple[Tensor, Tensor]:
    """Return running extremes and their indices. end: of the dtype, the one that no element is beaten by."""
    if tensor.dim() == 0:
        return tensor.clone(), torch.zeros_like(tensor, dtype=torch.int64)

    def choose(earlier: Sequence[Tensor], later: Sequence[Tensor]) -> list[Tensor]:
        is_later = beats(later[0], earlier[0]) | (later[0] != later[0])
        return [torch.where(is_later, new, old) for new, old in zip(later, earlier, strict=True)]

    places = torch.arange(tensor.shape[dim], device=tensor.device).reshape([-1] + [1] * ((-1 - dim) % tensor.dim()))
    values, indices = _scan([tensor, places.expand(tensor.shape)], dim, [_find_end(tensor.dtype, end), 0], choose)
    return values, indices


def _find_end(dtype: torch.dtype, end: str) -> float | bool:
    if dtype.is_floating_point:
        return -math.inf if end == "min" else math.inf
    return end == "max" if dtype is torch.bool else getattr(torch.iinfo(dtype), end)


def _accumulate(tensor: Tensor, dim: int, dtype: torch.dtype | None, neutral: float, combine: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Return the scan of `tensor` by an op of two operands, in float32 where the result is of halves, as torch accumulates them."""
    dtype = dtype or _accumulation_dtype(tensor)
    tensor = tensor.to(dtype)
    if tensor.dim() == 0:
        return tensor.clone()
    wide = tensor.to(torch.float32) if dtype in _HALVES else tensor
    (found,) = _scan([wide], dim, [neutral], lambda earlier, later: [combine(earlier[0], later[0])])
    return found.to(dtype)


def _scan(leaves: Sequence[Tensor], dim: int, neutral: Sequence[float],
          combine: Callable[[Sequence[Tensor], Sequence[Tensor]], Sequence[Tensor]]) -> Sequence[Tensor]:
    """Return the inclusive scan of `leaves` along `dim`.

    combine: takes all leaves of earlier elements and those of later ones, and returns the leaves of both together; it is associative.
    neutral: of each leaf, the earlier element that changes no later one.
    """
    for step in _list_steps(leaves[0].shape[dim]):
        earlier = [_shift(leaf, dim, step, fill) for leaf, fill in zip(leaves, neutral, strict=True)]
        leaves = combine(earlier, leaves)
    return leaves


def _list_steps(size: int | torch.SymInt) -> Iterator[int]:
    largest, step = symbolic.find_largest(size) or _LARGEST, 1
    while step < largest:
        yield step
        step *= 2


def _shift(tensor: Tensor, dim: int, step: int, fill: float) -> Tensor:
    """Move all elements `step` places up along `dim`, and fill the first places."""
    size, shape = tensor.shape[dim], list(tensor.shape)
    shape[dim] = torch.sym_min(step, size)
    return torch.cat([tensor.new_full(shape, fill), tensor], dim).narrow(dim, 0, size)


def _accumulation_dtype(tensor: Tensor) -> torch.dtype:
    return tensor.dtype if tensor.dtype.is_floating_point or tensor.dtype.is_complex else torch.int64
