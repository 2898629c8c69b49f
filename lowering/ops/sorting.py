"""Ops that select elements by their order, by a sort. NaN counts as the largest number."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch

from lowering.ops.sequences import scans

Tensor: TypeAlias = torch.Tensor


def topk(tensor: Tensor, k: int, dim: int = -1, largest: bool = True,
         sorted: bool = True) -> tuple[Tensor, Tensor]:  # noqa: A002 - the schema's
    """Return the first k elements of the sorted tensor, and their indices."""
    if tensor.dim() == 0:
        return tensor.clone(), torch.zeros_like(tensor, dtype=torch.int64)
    values, places = torch.sort(tensor, stable=True, dim=dim, descending=largest)
    return values.narrow(dim, 0, k), places.narrow(dim, 0, k)


def kthvalue(tensor: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """Return the k-th smallest element along a dim, counted from 1, and its index."""
    if tensor.dim() == 0:
        return tensor.clone(), torch.zeros_like(tensor, dtype=torch.int64)
    values, places = torch.sort(tensor, stable=True, dim=dim)
    return _drop_dim(values.narrow(dim, k - 1, 1), dim, keepdim), _drop_dim(places.narrow(dim, k - 1, 1), dim, keepdim)


def median(tensor: Tensor) -> Tensor:
    """Return the lower median of all elements, or NaN if there is one or no element."""
    values = torch.sort(tensor.flatten(), stable=True)[0]
    return _select_or_nan(values, _find_median(values, 0))


def median_along(tensor: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """Return the lower median along a dim and its index, or NaN and its first index if there is one."""
    return _select_sorted(tensor, dim, keepdim, _find_median)


def nanmedian(tensor: Tensor) -> Tensor:
    """Return the lower median of all elements that are not NaN, or NaN if there is none."""
    values = torch.sort(tensor.flatten(), stable=True)[0]
    return _select_or_nan(values, _find_nanmedian(values, 0))


def nanmedian_along(tensor: Tensor, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """Return the lower median along a dim of the elements that are not NaN, and its index."""
    return _select_sorted(tensor, dim, keepdim, _find_nanmedian)


def _select_sorted(tensor: Tensor, dim: int, keepdim: bool, find: Callable[[Tensor, int], Tensor]) -> tuple[Tensor, Tensor]:
    """Return one element along a dim, and its index. find: returns its position among the sorted elements, with `dim` kept at size 1."""
    if tensor.dim() == 0:
        return tensor.clone(), torch.zeros_like(tensor, dtype=torch.int64)
    values, places = torch.sort(tensor, stable=True, dim=dim)
    place = find(values, dim)
    return _drop_dim(values.gather(dim, place), dim, keepdim), _drop_dim(places.gather(dim, place), dim, keepdim)


def _find_median(values: Tensor, dim: int) -> Tensor:
    """Return the index of the lower median of sorted values, or of the first NaN; without values any."""
    is_nan = values != values
    last = values.shape[dim] - 1
    return torch.where(is_nan.any(dim, keepdim=True), (~is_nan).sum(dim, keepdim=True), last // 2)


def _find_nanmedian(values: Tensor, dim: int) -> Tensor:
    """Return the index of the lower median of sorted values that are not NaN, or 0 if there is none."""
    count = (values == values).sum(dim, keepdim=True)
    return torch.div((count - 1).clamp(min=0), 2, rounding_mode="floor")


def _select_or_nan(values: Tensor, place: Tensor) -> Tensor:
    """Return the element of a 1-d tensor at an index, or NaN if it has no element. Integers have no NaN, and no median without elements."""
    if values.is_floating_point():
        values = torch.cat([values, values.new_full((1,), math.nan)])
    return values.gather(0, place.clamp(min=0)).squeeze(0)


def mode(tensor: Tensor, dim: int = -1, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """Return the smallest of the most frequent elements along a dim, and one of its indices."""
    if tensor.dim() == 0:
        return tensor.clone(), torch.zeros_like(tensor, dtype=torch.int64)
    values, places = torch.sort(tensor, stable=True, dim=dim)
    return find_mode(values, places, dim, keepdim)


def find_mode(values: Tensor, places: Tensor, dim: int, keepdim: bool, is_element: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Compute `mode` of sorted values and their indices. is_element: (size of the dim,), False for values that do not count."""
    moved = values.movedim(dim, -1)
    ranks = torch.arange(moved.shape[-1], device=moved.device)
    is_first = (moved != moved.roll(1, -1)) | (ranks == 0)
    first, _ = scans.cummax(torch.where(is_first, ranks, 0), -1)
    counts = ranks - first + 1  # of the equal elements up to each
    if is_element is not None:
        counts = torch.where(is_element, counts, 0)
    best = counts.movedim(-1, dim).argmax(dim, keepdim=True)
    return _drop_dim(values.gather(dim, best), dim, keepdim), _drop_dim(places.gather(dim, best), dim, keepdim)


def searchsorted(sequence: Tensor, values: Tensor, *, out_int32: bool = False, right: bool = False, side: str | None = None,
                 sorter: Tensor | None = None) -> Tensor:
    """Return the position of each value in its sorted sequence: the number of elements before it."""
    if sorter is not None:
        sequence = sequence.gather(-1, sorter)
    wanted = values.unsqueeze(-1)
    given = sequence if sequence.dim() == 1 else sequence.unsqueeze(-2)
    before = given <= wanted if right or side == "right" else given < wanted
    return (before | (wanted != wanted)).sum(-1).to(torch.int32 if out_int32 else torch.int64)


def searchsorted_number(sequence: Tensor, value: Any, **settings: Any) -> Tensor:
    """Return the position of a number in a sorted sequence."""
    return searchsorted(sequence, torch.full((), value, device=sequence.device), **settings)


def bucketize(values: Any, boundaries: Tensor, *, out_int32: bool = False, right: bool = False) -> Tensor:
    """Return the bucket of each value (or of a number) between sorted boundaries."""
    tensor = values if isinstance(values, torch.Tensor) else torch.full((), values, device=boundaries.device)
    return searchsorted(boundaries, tensor, out_int32=out_int32, right=right)


def isin(elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False) -> Tensor:
    """Return whether each element is among the test elements. Either may be a number."""
    tensor = elements if isinstance(elements, torch.Tensor) else torch.full((), elements, device=test_elements.device)
    is_number = not isinstance(test_elements, torch.Tensor)
    found = (tensor == test_elements) if is_number else (tensor.unsqueeze(-1) == test_elements.flatten()).any(-1)
    return ~found if invert else found


def _drop_dim(tensor: Tensor, dim: int, keepdim: bool) -> Tensor:
    return tensor if keepdim else tensor.squeeze(dim)
