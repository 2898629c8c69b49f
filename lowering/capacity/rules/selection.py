"""Ops that decide a size: the places or elements that a mask selects, elements without their repetitions, slices by numbers of the data."""

from __future__ import annotations

from typing import Any

import sympy
import torch

from lowering.capacity.rules.table import Rows, argument
from lowering.capacity.values import Call, Counted, NoRule, Tensor, plain

ROWS = Rows()


def select(mask: Tensor, length: Any) -> tuple[Tensor, Tensor]:
    """Return the places of the true elements of a flat mask, in order and padded to `length`, and their number.

    The padding holds places too, of other elements.
    """
    order = torch.sort((~mask).to(torch.int32), stable=True)[1]
    places = torch.arange(length)
    return order.index_select(0, torch.minimum(places, torch.full_like(places, 1) * (mask.shape[0] - 1))), mask.sum()


def unravel(places: Tensor, shape: Any) -> list[Tensor]:
    """Return the coordinates of flat places in a shape."""
    found: list[Tensor] = []
    for size in reversed(list(shape)):
        found.insert(0, places % size)
        places = torch.div(places, size, rounding_mode="floor")
    return found


def as_mask(value: Any) -> Tensor:
    """Return where a tensor is not zero, its padding excluded."""
    found = value.filled(0) if isinstance(value, Counted) else value
    return found if found.dtype is torch.bool else found != 0  # type: ignore[no-any-return]


def bound_elements(name: str) -> Any:
    """Return the bound of an op that gives at most the elements of its argument `name`."""
    return lambda node, shape_of: sympy.Mul(*shape_of(argument(node, name)))


@ROWS.of("nonzero", "argwhere", bound=bound_elements("self"))
def _nonzero(call: Call, tensor: Any) -> Tensor:
    mask = as_mask(tensor)
    places, count = select(mask.reshape(-1), call.lengths()[0])
    call.decide(count)
    if not mask.dim():
        return places.reshape(-1, 1)[:, :0]
    return torch.stack(unravel(places, mask.shape), 1)


@ROWS.of("nonzero_numpy", bound=bound_elements("self"))
def _nonzero_columns(call: Call, tensor: Any) -> list[Tensor]:
    mask = as_mask(tensor)
    places, count = select(mask.reshape(-1), call.lengths()[0])
    call.decide(count)
    return unravel(places, mask.shape)


@ROWS.of("where.default", bound=bound_elements("condition"))
def _where(call: Call, condition: Any) -> list[Tensor]:
    return _nonzero_columns(call, condition)  # type: ignore[no-any-return]


def _bound_broadcast(node: Any, shape_of: Any) -> Any:
    first, second = shape_of(argument(node, "self")), shape_of(argument(node, "mask"))
    rank = max(len(first), len(second))
    first, second = ([sympy.Integer(1)] * (rank - len(shape)) + shape for shape in (first, second))
    return sympy.Mul(*(other if one == 1 else one for one, other in zip(first, second, strict=True)))


@ROWS.of("masked_select", bound=_bound_broadcast)
def _masked_select(call: Call, tensor: Any, mask: Any) -> Tensor:
    data, where = torch.broadcast_tensors(plain(tensor), as_mask(mask))
    if isinstance(tensor, Counted):
        where = where & tensor.mask()
    places, count = select(where.reshape(-1), call.lengths()[0])
    call.decide(count)
    return data.reshape(-1).index_select(0, places)


@ROWS.of("masked_scatter")
def _masked_scatter(call: Call, tensor: Any, mask: Any, source: Any) -> Tensor:
    data, where = torch.broadcast_tensors(plain(tensor), as_mask(mask))
    if isinstance(tensor, Counted):
        where = where & tensor.mask()
    if isinstance(source, Counted) and any(position for position in source.counted):
        raise NoRule("takes elements in order from a tensor whose inner dim is padded")
    given = plain(source).reshape(-1)
    rank = (torch.cumsum(where.reshape(-1).to(torch.int64), 0) - 1).clamp(min=0)
    taken = given.index_select(0, torch.minimum(rank, torch.full_like(rank, 1) * (given.shape[0] - 1))).reshape(where.shape)
    return torch.where(where, taken, data)


def bound_slice(node: Any, shape_of: Any) -> Any:
    """Return the bound of a slice: its dim, or an int that is its length."""
    length = argument(node, "length") if node.target is torch.ops.aten.narrow.default else None
    return sympy.Integer(length) if isinstance(length, int) else shape_of(argument(node, "self"))[argument(node, "dim")]


def _flat(value: Any) -> tuple[Tensor, Tensor]:
    """Return the elements of a tensor in one dim, and where they are."""
    data = plain(value).reshape(-1)
    if not isinstance(value, Counted):
        return data, torch.ones_like(data, dtype=torch.bool)
    return data, value.mask().expand(value.data.shape).reshape(-1)


def _ordered(data: Tensor, valid: Tensor) -> Tensor:
    """Return the places of elements by value, equal ones in order, padding last."""
    keys = data.to(torch.int32) if data.dtype in (torch.bool, torch.uint8, torch.int8, torch.int16) else data
    order = torch.sort(keys, stable=True)[1]
    behind = torch.sort((~valid.index_select(0, order)).to(torch.int32), stable=True)[1]
    return order.index_select(0, behind)


def _without_repetitions(call: Call, data: Tensor, valid: Tensor, order: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Return the first of each run of equal elements, the number of each element's run, and how long each run is."""
    ordered = data if order is None else data.index_select(0, order)
    there = valid if order is None else valid.index_select(0, order)
    places = torch.arange(data.shape[0])
    before = ordered.index_select(0, (places - 1).clamp(min=0))
    is_first = there & ((places == 0) | (ordered != before))
    length = call.lengths(0)[0]
    chosen, count = select(is_first, length)
    call.decide(count, 0, 0)
    run = (torch.cumsum(is_first.to(torch.int64), 0) - 1).clamp(min=0)
    inverse = run if order is None else torch.zeros_like(run).scatter(0, order, run)
    total = there.to(torch.int64).sum()
    slots = torch.arange(length)
    ends = torch.where(slots + 1 < count, chosen.index_select(0, torch.minimum(slots + 1, torch.ones_like(slots) * (length - 1))), total)
    return ordered.index_select(0, chosen), inverse, torch.where(slots < count, ends - chosen, 0)


@ROWS.of("_unique2", bound=bound_elements("self"))
def _unique(call: Call, tensor: Any, sorted: bool = True, return_inverse: bool = False,  # noqa: A002 - the schema's
            return_counts: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    data, valid = _flat(tensor)
    values, inverse, counts = _without_repetitions(call, data, valid, _ordered(data, valid))
    return values, inverse.reshape(plain(tensor).shape) if return_inverse else _empty(), counts if return_counts else _empty()


@ROWS.of("unique_consecutive", bound=bound_elements("self"))
def _unique_consecutive(call: Call, tensor: Any, return_inverse: bool = False, return_counts: bool = False,
                        dim: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    if dim is not None and plain(tensor).dim() != 1:
        raise NoRule("compares whole slices along a dim")
    if isinstance(tensor, Counted) and tensor.counted != (0,):
        raise NoRule("reads elements in order from a tensor whose inner dim is padded")
    data, valid = _flat(tensor)
    values, inverse, counts = _without_repetitions(call, data, valid, None)
    return values, inverse.reshape(plain(tensor).shape) if return_inverse else _empty(), counts if return_counts else _empty()


def _empty() -> Tensor:
    return torch.zeros(0, dtype=torch.int64)


@ROWS.of("bincount")
def _bincount(call: Call, tensor: Any, weights: Any = None, minlength: int = 0) -> Tensor:
    data, valid = _flat(tensor)
    length = call.lengths()[0]
    most = torch.where(valid, data.to(torch.int64), -1).amax() + 1
    call.decide(most.clamp(min=minlength))
    slots = torch.where(valid, data.to(torch.int64), length).clamp(max=length)
    added = torch.ones_like(slots) if weights is None else plain(weights).to(call.dtypes[0])
    found = torch.zeros(length + 1, dtype=call.dtypes[0]).index_add(0, slots, added.to(call.dtypes[0]))
    return found.narrow(0, 0, length)


@ROWS.of("repeat_interleave.Tensor")
def _repeat_interleave(call: Call, repeats: Any, *, output_size: Any = None) -> Tensor:
    data, valid = _flat(repeats)
    ends = torch.cumsum(torch.where(valid, data.to(torch.int64), 0), 0)
    call.decide(ends.select(0, -1) if ends.shape[0] != 0 else torch.zeros((), dtype=torch.int64))
    places = torch.searchsorted(ends, torch.arange(call.lengths()[0]), right=True)
    return torch.minimum(places, torch.full_like(places, 1) * (data.shape[0] - 1)).to(call.dtypes[0])
