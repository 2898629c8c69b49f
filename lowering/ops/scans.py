"""Cumulative ops at dynamic lengths, as masked reductions that every level supports.

They are quadratic in the length, but compilers fuse them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeAlias

import torch

Tensor: TypeAlias = torch.Tensor


def cumsum(tensor: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    """Return running sums along `dim`. A masked element is not a summand, so 0 * inf does not occur."""
    dtype = dtype or _accumulation_dtype(tensor)
    return _scan(tensor.to(dtype), dim, 0, lambda counted: counted.sum(-2, dtype=dtype))


def cumprod(tensor: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    """Return running products along `dim`."""
    dtype = dtype or _accumulation_dtype(tensor)
    return _scan(tensor.to(dtype), dim, 1, lambda counted: counted.prod(-2, dtype=dtype))


def logcumsumexp(tensor: Tensor, dim: int) -> Tensor:
    """Return running log-sum-exps along `dim`."""
    return _scan(tensor, dim, -math.inf, lambda counted: _logsumexp(counted, -2))


def _logsumexp(tensor: Tensor, dim: int) -> Tensor:
    most = tensor.amax(dim, keepdim=True)
    kept = torch.where(most.abs() == math.inf, 0.0, most)
    return (tensor - kept).exp().sum(dim).log() + kept.squeeze(dim)


def cummax(tensor: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return running maxima along `dim`, and the last index of each. The maximum stays NaN after the first NaN."""
    return _find_extremes(tensor, dim, lambda a, b: a >= b)


def cummin(tensor: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Return running minima along `dim`, and the last index of each."""
    return _find_extremes(tensor, dim, lambda a, b: a <= b)


def _find_extremes(tensor: Tensor, dim: int, beats: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, Tensor]:
    """Return running extremes and their indices.

    An element is the running extreme of [0, i] if it beats all earlier ones. The last such index up to i is the result's.
    """
    if tensor.dim() == 0:
        return tensor.clone(), torch.zeros_like(tensor, dtype=torch.int64)
    moved = tensor.transpose(dim, -1)
    places = torch.arange(moved.shape[-1], device=tensor.device)
    earlier = places.unsqueeze(-1) <= places  # [from, to]
    holds = beats(moved.unsqueeze(-2), moved.unsqueeze(-1)) | (moved != moved).unsqueeze(-2)
    records = (holds | ~earlier).all(-2)
    indices = torch.where(earlier & records.unsqueeze(-1), places.unsqueeze(-1), 0).amax(-2)
    return moved.gather(-1, indices).transpose(dim, -1), indices.transpose(dim, -1)


def _accumulation_dtype(tensor: Tensor) -> torch.dtype:
    return tensor.dtype if tensor.dtype.is_floating_point or tensor.dtype.is_complex else torch.int64


def _scan(tensor: Tensor, dim: int, neutral: float, reduce: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply `reduce` over dim -2 of (..., from, to), where elements after `to` are `neutral`."""
    if tensor.dim() == 0:
        return tensor.clone()
    moved = tensor.transpose(dim, -1)
    places = torch.arange(moved.shape[-1], device=tensor.device)
    counted = places.unsqueeze(-1) <= places
    return reduce(torch.where(counted, moved.unsqueeze(-1), neutral)).transpose(dim, -1)
