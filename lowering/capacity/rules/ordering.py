"""Sorts: the padding goes last."""

from __future__ import annotations

from typing import Any

import torch

from lowering.capacity.bounds import is_at_most
from lowering.capacity.rules.table import Rows
from lowering.capacity.rules.views import take
from lowering.capacity.sizes import as_tensor
from lowering.capacity.values import Call, Counted, NoRule, Number, Tensor, as_count, highest, last, number, plain, true_sizes
from lowering.ops import sorting

ROWS = Rows()


def _sort_padded(tensor: Counted, dim: int, descending: bool) -> tuple[Tensor, Tensor]:
    filled = tensor.fill(last(tensor.data.dtype, descending), dim) if tensor.dims else tensor.data
    return torch.sort(filled, stable=True, dim=dim, descending=descending)


@ROWS.register("sort.default")
def _sort(call: Call, tensor: Counted, dim: int = -1, descending: bool = False) -> tuple[Tensor, Tensor]:
    return _sort_padded(tensor, dim, descending)


@ROWS.register("sort.stable")
def _sort_stable(call: Call, tensor: Counted, *, stable: bool | None = None, dim: int = -1,
                 descending: bool = False) -> tuple[Tensor, Tensor]:
    return _sort_padded(tensor, dim, descending)


@ROWS.register("argsort.default")
def _argsort(call: Call, tensor: Counted, dim: int = -1, descending: bool = False) -> Tensor:
    return _sort_padded(tensor, dim, descending)[1]


@ROWS.register("argsort.stable")
def _argsort_stable(call: Call, tensor: Counted, *, stable: bool, dim: int = -1, descending: bool = False) -> Tensor:
    return _sort_padded(tensor, dim, descending)[1]


@ROWS.register("topk.default")
def _topk(call: Call, tensor: Any, k: Any, dim: int = -1, largest: bool = True, sorted: bool = True) -> tuple[Tensor, Tensor]:  # noqa: A002
    if isinstance(tensor, Counted) and tensor.has(dim):
        if not is_at_most(call.results[0][dim].size, tensor.dims[dim].size):
            call.check(as_count(tensor, dim) >= number(k), "topk needs at least k elements")
        values, places = _sort_padded(tensor, dim, largest)
    else:
        if isinstance(number(k), torch.Tensor):
            call.check(number(k) <= plain(tensor).shape[dim], "topk needs at least k elements")
        values, places = torch.sort(plain(tensor), stable=True, dim=dim, descending=largest)
    chosen = torch.arange(call.lengths()[dim])
    return take(values, dim, chosen), take(places, dim, chosen)


@ROWS.register("median.default")
def _median(call: Call, tensor: Counted) -> Tensor:
    filled = tensor.fill(last(tensor.data.dtype, False)).reshape(-1)
    count = tensor.mask().expand(tensor.data.shape).sum()
    values = torch.sort(filled, stable=True)[0]
    middle = take(values, 0, torch.div(count - 1, 2, rounding_mode="floor").reshape(1)).reshape(())
    return _nan_where(middle, Counted(tensor.data != tensor.data, tensor.dims).fill(False).any() | (count == 0))


@ROWS.register("median.dim")
def _median_along(call: Call, tensor: Counted, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    if not tensor.has(dim):
        return call.op(tensor.data, dim, keepdim)  # type: ignore[no-any-return]
    call.check(as_count(tensor, dim) > 0, "median needs elements")
    values, places = _sort_padded(tensor, dim, False)
    wrong = Counted(tensor.data != tensor.data, tensor.dims).fill(False, dim)
    count = as_count(tensor, dim)
    at = torch.where(wrong.any(dim, keepdim=True), count - wrong.sum(dim, keepdim=True), torch.div(count - 1, 2, rounding_mode="floor"))
    at = at.clamp(min=0)
    found = values.gather(dim, at), places.gather(dim, at)
    return found if keepdim else (found[0].squeeze(dim), found[1].squeeze(dim))


def _nan_where(value: Tensor, condition: Tensor) -> Tensor:
    return torch.where(condition, torch.nan, value) if value.dtype.is_floating_point else value


@ROWS.register("nanmedian.default")
def _nanmedian(call: Call, tensor: Counted) -> Tensor:
    return call.op(tensor.fill(torch.nan)) if tensor.data.dtype.is_floating_point else _median(call, tensor)  # type: ignore[no-any-return]


@ROWS.register("nanmedian.dim")
def _nanmedian_along(call: Call, tensor: Counted, dim: int, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    if not tensor.data.dtype.is_floating_point:
        return _median_along(call, tensor, dim, keepdim)
    if tensor.has(dim):
        call.check(as_count(tensor, dim) > 0, "nanmedian needs elements")
    return call.op(tensor.fill(torch.nan, dim), dim, keepdim)  # type: ignore[no-any-return]


@ROWS.register("mode.default")
def _mode(call: Call, tensor: Counted, dim: int = -1, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    if not tensor.has(dim):
        return call.op(tensor.data, dim, keepdim)  # type: ignore[no-any-return]
    count = as_count(tensor, dim)
    call.check(count > 0, "mode needs elements")
    values, places = _sort_padded(tensor, dim, False)
    return sorting.find_mode(values, places, dim, keepdim, torch.arange(values.shape[dim]) < count)


@ROWS.register("kthvalue.default")
def _kthvalue(call: Call, tensor: Counted, k: Any, dim: int = -1, keepdim: bool = False) -> tuple[Tensor, Tensor]:
    size, wanted = as_tensor(true_sizes(tensor)[dim]), as_tensor(number(k))
    call.check((wanted > 0) & (wanted <= size), "kthvalue needs at least k elements")
    values, places = _sort_padded(tensor, dim, False)
    found = (take(each, dim, (wanted - 1).reshape(1)) for each in (values, places))
    return tuple(each if keepdim else each.squeeze(dim) for each in found)  # type: ignore[return-value]


@ROWS.register("searchsorted.Tensor", "searchsorted.Scalar")
def _searchsorted(call: Call, sequence: Any, values: Any, *, out_int32: bool = False, right: bool = False, side: str | None = None,
                  sorter: Any = None) -> Tensor:
    if isinstance(values, Number) or sorter is not None:
        raise NoRule("takes a sorter, or a number that data decide")
    if plain(sequence).dim() != 1:
        raise NoRule("searches in rows of which data decide the number or the size")
    found = _search(sequence, values, right if side is None else side == "right")
    return found.to(call.dtypes[0])


@ROWS.register("bucketize.Tensor", "bucketize.Scalar")
def _bucketize(call: Call, values: Any, boundaries: Any, *, out_int32: bool = False, right: bool = False) -> Tensor:
    if isinstance(values, Number):
        raise NoRule("takes a number that data decide")
    return _search(boundaries, values, right).to(call.dtypes[0])


def _search(sequence: Any, values: Any, right: bool) -> Tensor:
    """Return the index of each value in a sorted sequence. Padding is no smaller than any element, and no index exceeds the count."""
    filled = sequence.fill(highest(sequence.data.dtype)) if isinstance(sequence, Counted) else sequence
    found = torch.searchsorted(filled, plain(values), right=right)
    return torch.minimum(found, as_count(sequence, 0)) if isinstance(sequence, Counted) else found
