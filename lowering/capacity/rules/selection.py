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
    found = value.fill(0) if isinstance(value, Counted) else value
    return found if found.dtype is torch.bool else found != 0  # type: ignore[no-any-return]


def bound_elements(name: str) -> Any:
    """Return the bound of an op that gives at most the elements of its argument `name`."""
    return lambda node, shape_of: sympy.Mul(*shape_of(argument(node, name)))


@ROWS.register("nonzero", "argwhere", bound=bound_elements("self"))
def _nonzero(call: Call, tensor: Any) -> Tensor:
    mask = as_mask(tensor)
    places, count = select(mask.reshape(-1), call.lengths()[0])
    call.decide(count)
    if not mask.dim():
        return places.reshape(-1, 1)[:, :0]
    return torch.stack(unravel(places, mask.shape), 1)


@ROWS.register("nonzero_numpy", bound=bound_elements("self"))
def _nonzero_columns(call: Call, tensor: Any) -> list[Tensor]:
    mask = as_mask(tensor)
    places, count = select(mask.reshape(-1), call.lengths()[0])
    call.decide(count)
    return unravel(places, mask.shape)


@ROWS.register("where.default", bound=bound_elements("condition"))
def _where(call: Call, condition: Any) -> list[Tensor]:
    return _nonzero_columns(call, condition)  # type: ignore[no-any-return]


def _bound_broadcast(node: Any, shape_of: Any) -> Any:
    first, second = shape_of(argument(node, "self")), shape_of(argument(node, "mask"))
    rank = max(len(first), len(second))
    first, second = ([sympy.Integer(1)] * (rank - len(shape)) + shape for shape in (first, second))
    return sympy.Mul(*(other if one == 1 else one for one, other in zip(first, second, strict=True)))


@ROWS.register("masked_select", bound=_bound_broadcast)
def _masked_select(call: Call, tensor: Any, mask: Any) -> Tensor:
    data, where = torch.broadcast_tensors(plain(tensor), as_mask(mask))
    if isinstance(tensor, Counted):
        where = where & tensor.mask()
    places, count = select(where.reshape(-1), call.lengths()[0])
    call.decide(count)
    return data.reshape(-1).index_select(0, places)


@ROWS.register("masked_scatter")
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


def _sort_valid_first(data: Tensor, valid: Tensor) -> Tensor:
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


@ROWS.register("_unique2", bound=bound_elements("self"))
def _unique(call: Call, tensor: Any, sorted: bool = True, return_inverse: bool = False,  # noqa: A002 - the schema's
            return_counts: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    data, valid = _flat(tensor)
    values, inverse, counts = _without_repetitions(call, data, valid, _sort_valid_first(data, valid))
    return values, inverse.reshape(plain(tensor).shape) if return_inverse else _empty(), counts if return_counts else _empty()


def _bound_unique(node: Any, shape_of: Any) -> Any:
    shape, dim = shape_of(argument(node, "self")), argument(node, "dim")
    return sympy.Mul(*shape) if dim is None else shape[dim]


@ROWS.register("unique_consecutive", bound=_bound_unique)
def _unique_consecutive(call: Call, tensor: Any, return_inverse: bool = False, return_counts: bool = False,
                        dim: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
    if dim is not None and plain(tensor).dim() != 1:
        return _unique_slices(call, tensor, dim, False)
    if isinstance(tensor, Counted) and tensor.counted != (0,):
        raise NoRule("reads elements in order from a tensor whose inner dim is padded")
    data, valid = _flat(tensor)
    values, inverse, counts = _without_repetitions(call, data, valid, None)
    return values, inverse.reshape(plain(tensor).shape) if return_inverse else _empty(), counts if return_counts else _empty()


@ROWS.register("unique_dim", bound=lambda node, shape_of: shape_of(argument(node, "self"))[argument(node, "dim")])
def _unique_dim(call: Call, tensor: Any, dim: int, sorted: bool = True, return_inverse: bool = False,  # noqa: A002 - the schema's
                return_counts: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    return _unique_slices(call, tensor, dim, True)


def _unique_slices(call: Call, tensor: Any, dim: int, sorts: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return the slices along a dim without repetitions, ordered by their first element that differs."""
    if isinstance(tensor, Counted) and tensor.counted != (dim % len(tensor.dims),):
        raise NoRule("compares slices of which data decide the size")
    data = plain(tensor)
    rows = data.movedim(dim, 0).reshape(data.shape[dim], -1)
    count = rows.shape[0]
    places = torch.arange(count)
    valid = places < (tensor.dims[dim].count if isinstance(tensor, Counted) else count)
    one, other = rows.unsqueeze(1), rows.unsqueeze(0)
    differs = one != other
    first = differs.to(torch.int32).argmax(-1, keepdim=True)
    is_less = (one < other).gather(-1, first).squeeze(-1) & differs.any(-1)
    is_equal = ~differs.any(-1)
    before = is_less | (is_equal & (places.unsqueeze(1) < places.unsqueeze(0)))  # of both, the first goes in front of the second
    if sorts:
        before = torch.where(valid.unsqueeze(1) == valid.unsqueeze(0), before, valid.unsqueeze(1))
        order = torch.zeros_like(places).scatter(0, before.sum(0), places)
    else:
        order = places
    ordered, there = rows.index_select(0, order), valid.index_select(0, order)
    previous = ordered.index_select(0, (places - 1).clamp(min=0))
    is_first = there & ((places == 0) | (ordered != previous).any(-1))
    length = call.lengths(0)[dim]
    chosen, number = select(is_first, length)
    call.decide(number, 0, dim % data.dim())
    run = (torch.cumsum(is_first.to(torch.int64), 0) - 1).clamp(min=0)
    slots = torch.arange(length)
    ends = torch.where(slots + 1 < number, chosen.index_select(0, (slots + 1).clamp(max=length - 1)), valid.sum())
    values = data.index_select(dim, order.index_select(0, chosen))
    inverse = torch.zeros_like(run).scatter(0, order, run)
    return values, inverse, torch.where(slots < number, ends - chosen, 0)


@ROWS.register("nonzero_static")
def _nonzero_static(call: Call, tensor: Any, *, size: int, fill_value: int = -1) -> Tensor:
    mask = as_mask(tensor)
    places, count = select(mask.reshape(-1), size)
    inside = (torch.arange(size) < count).unsqueeze(1)
    return torch.where(inside, torch.stack(unravel(places, mask.shape), 1), fill_value) if mask.dim() else places.reshape(-1, 1)[:, :0]


def _empty() -> Tensor:
    return torch.zeros(0, dtype=torch.int64)


@ROWS.register("bincount")
def _bincount(call: Call, tensor: Any, weights: Any = None, minlength: int = 0) -> Tensor:
    data, valid = _flat(tensor)
    length = call.lengths()[0]
    most = torch.where(valid, data.to(torch.int64), -1).amax() + 1
    call.decide(most.clamp(min=minlength))
    slots = torch.where(valid, data.to(torch.int64), length).clamp(max=length)
    added = torch.ones_like(slots) if weights is None else plain(weights).to(call.dtypes[0])
    found = torch.zeros(length + 1, dtype=call.dtypes[0]).index_add(0, slots, added.to(call.dtypes[0]))
    return found.narrow(0, 0, length)


@ROWS.register("repeat_interleave.Tensor")
def _repeat_interleave(call: Call, repeats: Any, *, output_size: Any = None) -> Tensor:
    return _repeat_places(call, repeats, 0).to(call.dtypes[0])


def _repeat_places(call: Call, repeats: Any, position: int) -> Tensor:
    """Return each place as often as `repeats` says, and decide the size of dim `position` of the result."""
    data, valid = _flat(repeats)
    ends = torch.cumsum(torch.where(valid, data.to(torch.int64), 0), 0)
    call.decide(torch.where(valid, data.to(torch.int64), 0).sum(), 0, position)
    places = torch.searchsorted(ends, torch.arange(call.lengths()[position]), right=True)
    return torch.minimum(places, torch.full_like(places, 1) * (data.shape[0] - 1))


@ROWS.register("repeat_interleave.self_Tensor")
def _repeat_interleave_by(call: Call, tensor: Any, repeats: Any, dim: int | None = None, *, output_size: Any = None) -> Tensor:
    if dim is None and isinstance(tensor, Counted) and tensor.counted != (0,):
        raise NoRule("repeats elements in order of a tensor whose inner dim is padded")
    data = plain(tensor).reshape(-1) if dim is None else plain(tensor)
    position = 0 if dim is None else dim % data.dim()
    if plain(repeats).dim() == 0 or plain(repeats).shape[0] == 1:
        if isinstance(tensor, Counted):
            raise NoRule("repeats each element as often as one number of the data says, and their number is data too")
        repeats = plain(repeats).reshape(-1).expand(data.shape[position])
    return data.index_select(position, _repeat_places(call, repeats, position))
