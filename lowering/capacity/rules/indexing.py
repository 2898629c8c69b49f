"""Reads and writes at indices: a read stays inside the tensor, and the padding of an index or of values writes nothing."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import sympy
import torch
from torch.utils import _pytree as pytree

from lowering.capacity.rules.selection import as_mask, select, unravel
from lowering.capacity.rules.table import Rows, argument
from lowering.capacity.rules.views import take
from lowering.capacity.sizes import as_tensor
from lowering.capacity.values import Call, Counted, NoRule, Number, Tensor, plain, true_sizes
from lowering.ops.sequences import bags

ROWS = Rows()
_MASKS = (torch.bool, torch.uint8)


@ROWS.register("embedding")
def _embedding(call: Call, weight: Any, indices: Counted, padding_idx: int = -1, *_: Any) -> Tensor:
    if isinstance(weight, Counted):
        raise NoRule("data decide the size of its table")
    return torch.nn.functional.embedding(indices.fill(0), weight)


@ROWS.register("embedding_bag", "_embedding_bag", "_embedding_bag_forward_only")
def _embedding_bag(call: Call, weight: Any, indices: Any, offsets: Any, scale_grad_by_freq: bool = False, mode: int = 0,
                   sparse: bool = False, per_sample_weights: Any = None, include_last_offset: bool = False,
                   padding_idx: int | None = -1) -> tuple[Tensor, ...]:
    if call.used - {0}:
        raise NoRule("its results beside the bags are used")
    if isinstance(weight, Counted) or isinstance(offsets, Counted):
        raise NoRule("data decide the size of its table or the number of its bags")
    counted = indices.mask() if isinstance(indices, Counted) else None
    found = bags.embedding_bag(weight, indices.fill(0) if isinstance(indices, Counted) else indices, offsets, False, mode, False,
                               None if per_sample_weights is None else plain(per_sample_weights), include_last_offset, padding_idx, counted)
    return found[0], *(torch.zeros(call.lengths(number), dtype=call.dtypes[number]) for number in range(1, len(call.results)))


@ROWS.register("index_select")
def _index_select(call: Call, tensor: Any, dim: int, index: Any) -> Tensor:
    return take(plain(tensor), dim, index.fill(0) if isinstance(index, Counted) else index)


@ROWS.register("gather")
def _gather(call: Call, tensor: Any, dim: int, index: Any, *, sparse_grad: bool = False) -> Tensor:
    places = index.fill(0) if isinstance(index, Counted) else index
    data = plain(tensor)
    for position, (size, other) in enumerate(zip(data.shape, places.shape, strict=True)):
        if position != dim % data.dim() and isinstance(index, Counted) and index.dims[position].count is not None:
            if isinstance(tensor, Counted) and tensor.dims[position].size == index.dims[position].size:
                continue
            data = take(data, position, torch.arange(other))  # as long as the index, which may be longer or shorter than the tensor
        elif isinstance(tensor, Counted) and tensor.dims[position].count is not None and position != dim % data.dim():
            data = take(data, position, torch.arange(other))
        del size
    return data.gather(dim, torch.minimum(places.clamp(min=0), torch.ones_like(places) * (data.shape[dim] - 1)))


@ROWS.register("take")
def _take(call: Call, tensor: Any, index: Any) -> Tensor:
    if isinstance(tensor, Counted) and tensor.counted != (0,):
        raise NoRule("reads a tensor whose inner dim is padded as if it were flat")
    places = index.fill(0) if isinstance(index, Counted) else index
    total = functools.reduce(lambda one, other: one * other, true_sizes(tensor), 1)
    return take(plain(tensor).reshape(-1), 0, torch.where(places < 0, places + total, places).reshape(-1)).reshape(places.shape)


def _bound_index(node: Any, shape_of: Any) -> Any:
    """Return the bound of an index by a mask: as many rows as the mask has elements."""
    masks = [index for index in argument(node, "indices") if index is not None and index.meta["val"].dtype in _MASKS]
    return sympy.Mul(*shape_of(masks[0])) if masks else None


def _expand_indices(call: Call, tensor: Any, indices: Sequence[Any], length: Any) -> tuple[list[Any], Tensor | None]:
    """Return indices with masks as places, and where the broadcast index is no padding (None: everywhere). Places are inside the tensor.

    length: the size to which the indices of a mask are padded.
    """
    found: list[Any] = []
    valid: list[Tensor] = []
    masks = 0
    for index in indices:
        if index is None:
            found.append(None)
        elif plain(index).dtype in _MASKS:
            masks += 1
            mask = as_mask(index)
            places, count = select(mask.reshape(-1), length)
            call.mask_count = count
            valid.append(torch.arange(length) < count)
            found += unravel(places, mask.shape)
        else:
            places = index.fill(0) if isinstance(index, Counted) else index
            true = true_sizes(tensor)[len(found)]
            if isinstance(index, Counted):
                valid.append(index.mask())
            if isinstance(true, torch.Tensor):
                places = torch.where(places < 0, places + true, places)
            most = torch.ones_like(places) * (plain(tensor).shape[len(found)] - 1)
            found.append(torch.minimum(places, most))
    if masks > 1:
        raise NoRule("is indexed by several masks")
    return found, functools.reduce(torch.logical_and, valid) if valid else None


@ROWS.register("index.Tensor", "_unsafe_index.Tensor", bound=_bound_index)
def _index(call: Call, tensor: Any, indices: Sequence[Any]) -> Tensor:
    masks = [place for place, index in enumerate(indices) if index is not None and plain(index).dtype in _MASKS]
    if not masks:
        return torch.ops.aten.index.Tensor(plain(tensor), _expand_indices(call, tensor, indices, 0)[0])  # type: ignore[no-any-return]
    position = _place_of_indices(indices)
    length = call.lengths()[position]
    found, _ = _expand_indices(call, tensor, indices, length)
    call.decide(call.mask_count, 0, position)
    return torch.ops.aten.index.Tensor(plain(tensor), found)  # type: ignore[no-any-return]


def _place_of_indices(indices: Sequence[Any]) -> int:
    """Return where the dim of a mask's places is in the result: in place of the first index, or in front if indices are apart."""
    given = [place for place, index in enumerate(indices) if index is not None]
    others = [plain(indices[place]).dim() for place in given if plain(indices[place]).dtype not in _MASKS]
    if given != list(range(given[0], given[-1] + 1)) or any(rank > 1 for rank in others):
        raise NoRule("is indexed by a mask beside other indices")
    return given[0]


@ROWS.register("index_put", "_unsafe_index_put")
def _index_put(call: Call, tensor: Any, indices: Sequence[Any], values: Any, accumulate: bool = False) -> Tensor:
    masks = [index for index in indices if index is not None and plain(index).dtype in _MASKS]
    if len(masks) == 1 and len(indices) == 1 and not accumulate and all(size == 1 for size in plain(values).shape):
        mask = as_mask(masks[0])
        mask = mask.reshape([*mask.shape, *[1] * (plain(tensor).dim() - mask.dim())])
        return torch.where(mask, plain(values).reshape(()).to(plain(tensor).dtype), plain(tensor))
    length = functools.reduce(lambda one, other: one * other, plain(masks[0]).shape, 1) if masks else 0
    found, valid = _expand_indices(call, tensor, indices, length)
    given = _fit(call, values, length, _place_of_indices(indices), plain(tensor).dim(), found) if masks else plain(values)
    if valid is None:
        return torch.ops.aten.index_put.default(plain(tensor), found, given, accumulate)  # type: ignore[no-any-return]
    first = next(place for place, index in enumerate(found) if index is not None)
    wider, slot = _add_slot(plain(tensor), first)
    found[first] = torch.where(valid, _wrap(found[first], plain(tensor).shape[first]), slot)
    found = [index if index is None or place == first else _wrap(index, plain(tensor).shape[place]) for place, index in enumerate(found)]
    written = torch.ops.aten.index_put.default(wider, found, given, accumulate)
    return written.narrow(first, 0, plain(tensor).shape[first])  # type: ignore[no-any-return]


def _fit(call: Call, values: Any, length: Any, position: int, rank: int, found: Sequence[Any]) -> Tensor:
    """Return values for as many rows as a mask has elements, and require that there are as many as it selects."""
    data = plain(values)
    indexed = sum(index is not None for index in found)
    place = data.dim() - (rank - indexed + 1) + position  # of the rows among the dims of the values, which broadcast
    if place < 0 or (not isinstance(values, Counted) and data.shape[place] == 1):
        return data
    true = true_sizes(values)[place]
    call.check(call.mask_count == true, "as many values are needed as the mask selects elements")
    return take(data, place, torch.arange(length))


def _wrap(index: Tensor, size: Any) -> Tensor:
    return torch.where(index < 0, index + size, index)


def _add_slot(data: Tensor, dim: int) -> tuple[Tensor, Any]:
    """Return a tensor with one more slot along a dim, to which padding is written, and the index of the slot."""
    slot = data.new_zeros([1 if place == dim % data.dim() else size for place, size in enumerate(data.shape)])
    return torch.cat([data, slot], dim), data.shape[dim]


def _scatter_by(call: Call, tensor: Any, dim: int, index: Any, source: Any, write: Callable[..., Tensor]) -> Tensor:
    """Write through an index whose padding goes to a slot of its own. Values are as many as indices, which is checked."""
    if isinstance(source, Number):
        raise NoRule("writes a number that data decide")
    given = _as_many(call, source, index) if isinstance(source, Counted | torch.Tensor) and plain(source).dim() else source
    if not isinstance(index, Counted):
        return write(plain(tensor), index, given)
    wider, slot = _add_slot(plain(tensor), dim)
    places = torch.where(index.mask(), _wrap(index.data, true_sizes(tensor)[dim]), slot)
    return write(wider, places, given).narrow(dim, 0, plain(tensor).shape[dim])


def _as_many(call: Call, source: Any, index: Any) -> Tensor:
    """Return values of the padded sizes of an index, dim by dim of the index."""
    data = plain(source)
    for position, wanted in enumerate(true_sizes(index)):
        given, length = true_sizes(source)[position], plain(index).shape[position]
        if isinstance(given, torch.Tensor) or isinstance(wanted, torch.Tensor):
            if not (isinstance(source, Counted) and isinstance(index, Counted) and source.dims[position].size == index.dims[position].size):
                call.check(as_tensor(given) >= wanted, "as many values are needed as there are indices")
            data = take(data, position, torch.arange(length))
    return data


@ROWS.register("scatter.src", "scatter.value", "scatter_add", "scatter.reduce", "scatter.value_reduce")
def _scatter(call: Call, tensor: Any, dim: int, index: Any, source: Any, **kwargs: Any) -> Tensor:
    return _scatter_by(call, tensor, dim, index, source, lambda data, places, given: call.op(data, dim, places, given, **kwargs))


@ROWS.register("scatter_reduce.two")
def _scatter_reduce(call: Call, tensor: Any, dim: int, index: Any, source: Any, reduce: str, **kwargs: Any) -> Tensor:
    return _scatter_by(call, tensor, dim, index, source, lambda data, places, given: call.op(data, dim, places, given, reduce, **kwargs))


@ROWS.register("index_add", "index_copy", "index_reduce")
def _index_add(call: Call, tensor: Any, dim: int, index: Any, source: Any, *args: Any, **kwargs: Any) -> Tensor:
    if any(isinstance(leaf, Number) for leaf in pytree.tree_leaves((args, kwargs))):
        raise NoRule("takes a number that data decide where a constant is needed")
    given, wanted = true_sizes(source)[dim], true_sizes(index)[0]
    data = plain(source)
    if isinstance(given, torch.Tensor) or isinstance(wanted, torch.Tensor):
        if not (isinstance(source, Counted) and isinstance(index, Counted) and source.dims[dim].size == index.dims[0].size):
            call.check(as_tensor(given) == wanted, "as many values are needed as there are indices")
        data = take(data, dim, torch.arange(plain(index).shape[0]))
    if not isinstance(index, Counted):
        return call.op(plain(tensor), dim, index, data, *args, **kwargs)  # type: ignore[no-any-return]
    wider, slot = _add_slot(plain(tensor), dim)
    places = torch.where(index.mask(), _wrap(index.data, true_sizes(tensor)[dim]), slot)
    return call.op(wider, dim, places, _as_wide(data, wider, dim), *args, **kwargs).narrow(  # type: ignore[no-any-return]
        dim, 0, plain(tensor).shape[dim])


def _as_wide(data: Tensor, wider: Tensor, dim: int) -> Tensor:
    """Raise NoRule unless values have the padded sizes of their destination, except in one dim."""
    if data.dim() != wider.dim():
        raise NoRule("writes values of another rank")
    return data


@ROWS.register("index_fill.int_Scalar")
def _index_fill(call: Call, tensor: Any, dim: int, index: Any, value: Any) -> Tensor:
    return _scatter_by(call, tensor, dim, index, value, lambda data, places, given: call.op(data, dim, places, given))
