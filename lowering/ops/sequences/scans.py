"""Cumulative ops, composed of ops that every level supports.

Each element is combined with the one that is 1, 2, 4, ... places before it, as often as the largest size of the dim needs. A step that is
longer than the dim combines with the neutral element alone. A sum of n elements is so a tree of log2(n) levels, as exact as a pairwise sum.

Along a dim whose size is a long expression, each element is reduced with all before it at once: quadratic, but of a fixed number of ops.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import torch

from lowering.ops import symbolic

Tensor: TypeAlias = torch.Tensor

_LARGEST = 1 << 31  # of the sizes that the levels below hold
_SIMPLE = 8  # operations in a size, of which minima are decided at once: it takes seconds for a polynomial of rounded quotients
_HALVES = (torch.float16, torch.bfloat16)


def cumsum(tensor: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    """Return running sums along `dim`. A masked element is not a summand, so 0 * inf does not occur."""
    return _accumulate(tensor, dim, dtype, 0, torch.add, torch.sum)


def cumprod(tensor: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    """Return running products along `dim`."""
    return _accumulate(tensor, dim, dtype, 1, torch.mul, torch.prod)


def logcumsumexp(tensor: Tensor, dim: int) -> Tensor:
    """Return running log-sum-exps along `dim`."""
    return _accumulate(tensor, dim, tensor.dtype, -math.inf, torch.logaddexp, _logsumexp)


def _logsumexp(tensor: Tensor, dim: int) -> Tensor:
    most = tensor.amax(dim, keepdim=True)
    kept = torch.where(most.abs() == math.inf, 0.0, most)
    return (tensor - kept).exp().sum(dim).log() + kept.squeeze(dim)


def cummax(tensor: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return running maxima along `dim`, and the last index of each. The maximum stays NaN after the first NaN."""
    return _find_extremes(tensor, dim, torch.ge, "min")


def cummin(tensor: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return running minima along `dim`, and the last index of each. The minimum stays NaN after the first NaN."""
    return _find_extremes(tensor, dim, torch.le, "max")


def _find_extremes(tensor: Tensor, dim: int, beats: Callable[[Tensor, Tensor], Tensor], end: str) -> tuple[Tensor, Tensor]:
    """Return running extremes and their indices. end: of the dtype, the one that beats no other."""
    if tensor.dim() == 0:
        return tensor.clone(), torch.zeros_like(tensor, dtype=torch.int64)
    if not _is_simple(tensor.shape[dim]):
        return _find_extremes_at_once(tensor, dim, beats)

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


def _find_extremes_at_once(tensor: Tensor, dim: int, beats: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Return running extremes and their indices.

    An element is the running extreme of [0, i] if it beats all earlier ones. The last such index up to i is the result's.
    """
    moved = tensor.transpose(dim, -1)
    places = torch.arange(moved.shape[-1], device=tensor.device)
    earlier = places.unsqueeze(-1) <= places  # [from, to]
    holds = beats(moved.unsqueeze(-2), moved.unsqueeze(-1)) | (moved != moved).unsqueeze(-2)
    records = (holds | ~earlier).all(-2)
    indices = torch.where(earlier & records.unsqueeze(-1), places.unsqueeze(-1), 0).amax(-2)
    return moved.gather(-1, indices).transpose(dim, -1), indices.transpose(dim, -1)


def _accumulate(tensor: Tensor, dim: int, dtype: torch.dtype | None, neutral: float, combine: Callable[[Tensor, Tensor], Tensor],
                reduce: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Return the scan of `tensor` by `combine`, which reduces two elements as `reduce` does a dim.

    It is computed in float32 where the result is of halves, as torch accumulates them.
    """
    dtype = dtype or _find_accumulation_dtype(tensor)
    tensor = tensor.to(dtype)
    if tensor.dim() == 0:
        return tensor.clone()
    wide = tensor.to(torch.float32) if dtype in _HALVES else tensor
    if not _is_simple(tensor.shape[dim]):
        return _reduce_at_once(wide, dim, neutral, reduce).to(dtype)
    (found,) = _scan([wide], dim, [neutral], lambda earlier, later: [combine(earlier[0], later[0])])
    return found.to(dtype)


def _find_accumulation_dtype(tensor: Tensor) -> torch.dtype:
    return tensor.dtype if tensor.dtype.is_floating_point or tensor.dtype.is_complex else torch.int64


def _is_simple(size: int | torch.SymInt) -> bool:
    return not isinstance(size, torch.SymInt) or size.node.expr.count_ops() <= _SIMPLE


def _reduce_at_once(tensor: Tensor, dim: int, neutral: float, reduce: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Apply `reduce` over dim -2 of (..., from, to), where elements after `to` are `neutral`."""
    moved = tensor.transpose(dim, -1)
    places = torch.arange(moved.shape[-1], device=tensor.device)
    counted = places.unsqueeze(-1) <= places
    return reduce(torch.where(counted, moved.unsqueeze(-1), neutral), -2).transpose(dim, -1)


def _scan(leaves: Sequence[Tensor], dim: int, neutral: Sequence[float],
          combine: Callable[[Sequence[Tensor], Sequence[Tensor]], Sequence[Tensor]]) -> Sequence[Tensor]:
    """Return the inclusive scan of `leaves` along `dim`.

    combine: takes all leaves of earlier elements and those of later ones, and returns the leaves of both together; it is associative.
    neutral: of each leaf, the earlier element that changes no later one.
    """
    shape = leaves[0].shape  # read once: a size of a later leaf would be computed from all before
    for step in _list_steps(shape[dim]):
        earlier = [_shift(leaf, shape, dim, step, fill) for leaf, fill in zip(leaves, neutral, strict=True)]
        leaves = combine(earlier, leaves)
    return leaves


def _list_steps(size: int | torch.SymInt) -> Iterator[int]:
    largest, step = symbolic.find_largest(size) or _LARGEST, 1
    while step < largest:
        yield step
        step *= 2


def _shift(tensor: Tensor, shape: torch.Size, dim: int, step: int, fill: float) -> Tensor:
    """Move all elements of a tensor of `shape` up along `dim` by `step` places, and fill the first places."""
    first = [*shape]
    first[dim] = torch.sym_min(step, shape[dim])
    return torch.cat([tensor.new_full(first, fill), tensor], dim).narrow(dim, 0, shape[dim])
