"""Ops that move elements: the elements of a padded dim stay at its front."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import sympy
import torch

from lowering.capacity.bounds import is_counted
from lowering.capacity.rules.selection import bound_slice
from lowering.capacity.rules.table import Rows, argument
from lowering.capacity.sizes import as_tensor
from lowering.capacity.values import Call, Counted, Dim, NoRule, Number, Tensor, number, plain, true_sizes

ROWS = Rows()


def take(data: Tensor, dim: int, places: Tensor) -> Tensor:
    """Return the elements at places along a dim. Places outside of it, which only padding has, are moved into it."""
    most = torch.ones_like(places) * (data.shape[dim] - 1)
    return data.index_select(dim, torch.minimum(places.clamp(min=0), most))


@ROWS.register("t", "transpose.int", "permute", "movedim.int", "movedim.intlist", "swapaxes", "swapdims", "numpy_T", "mT", "matrix_H",
               "adjoint", "unsqueeze", "moveaxis.int", "moveaxis.intlist")
def _move(call: Call, tensor: Counted, *args: Any) -> Tensor:
    return call.op(tensor.data, *args)  # type: ignore[no-any-return]


@ROWS.register("view.default", "reshape", "_unsafe_view", "flatten.using_ints", "unflatten.int", "view_as", "reshape_as", "squeeze.default",
               "squeeze.dim", "squeeze.dims", "ravel", "view_copy.default", "_reshape_copy", "unsqueeze_copy")
def _reshape(call: Call, tensor: Any, *_: Any, **__: Any) -> Tensor:
    before = tensor.dims if isinstance(tensor, Counted) else tuple(Dim(sympy.sympify(0), size) for size in tensor.shape)
    if isinstance(tensor, Counted) and _keeps_front(before, call.results[0]):
        return tensor.data.reshape(call.lengths())
    return _spread(call, tensor)


def _keeps_front(before: Sequence[Dim], after: Sequence[Dim]) -> bool:
    """Return whether the elements in front of padding stay there: a padded dim is joined and split only where it is the outermost."""
    for group, other in _groups([dim.size for dim in before], [dim.size for dim in after]):
        if any(is_counted(size) for size in group[1:]) or any(is_counted(size) for size in other[1:]):
            return False
    return True


def _groups(before: Sequence[Any], after: Sequence[Any]) -> list[tuple[list[Any], list[Any]]]:
    """Return the dims of two shapes of equal products in the smallest groups of equal products. Sizes of 1 are left out."""
    before, after = ([size for size in sizes if size != 1] for sizes in (before, after))
    found: list[tuple[list[Any], list[Any]]] = []
    one: list[Any] = []
    other: list[Any] = []
    for size in before:
        one.append(size)
        while len(other) < len(after) and not _is_equal(one, other) and _may_grow(one, other):
            other.append(after[len(other)])
        if one and other and _is_equal(one, other):
            found.append((one, other))
            one, after, other = [], after[len(other):], []
    if one or other or after:
        found.append((one, [*other, *after[len(other):]]))
    return found


def _is_equal(one: Sequence[Any], other: Sequence[Any]) -> bool:
    return bool(sympy.expand(sympy.Mul(*one) - sympy.Mul(*other)) == 0)


def _may_grow(one: Sequence[Any], other: Sequence[Any]) -> bool:
    """Return whether the product of `other` divides that of `one`, so that a further dim may make them equal."""
    rest = sympy.simplify(sympy.Mul(*one) / sympy.Mul(*other))
    return bool(sympy.denom(rest) == 1)


def _spread(call: Call, tensor: Any) -> Tensor:
    """Reshape by the place of every element: computed from the true sizes of the result, then from those of the tensor."""
    places = _flat_places(call.lengths(), _result_sizes(call))
    data, at = plain(tensor), torch.zeros((), dtype=torch.int64)
    for position, true in reversed(list(enumerate(true_sizes(tensor)))):
        size = torch.clamp(true, min=1) if isinstance(true, torch.Tensor) else true
        stride = functools.reduce(lambda one, other: one * other, data.shape[position + 1:], 1)
        at = at + (places % size) * stride
        places = torch.div(places, size, rounding_mode="floor")
    return take(data.reshape(-1), 0, at.reshape(-1)).reshape(call.lengths())


def _result_sizes(call: Call) -> list[Any]:
    return [dim.true for dim in call.results[0]]


def _flat_places(lengths: Sequence[Any], sizes: Sequence[Any]) -> Tensor:
    """Return the number of each element of a padded tensor of these true sizes, counted without the padding."""
    found, stride = torch.zeros((), dtype=torch.int64), torch.ones((), dtype=torch.int64)
    for position in reversed(range(len(lengths))):
        shape = [1] * len(lengths)
        shape[position] = -1
        found = found + torch.arange(lengths[position]).reshape(shape) * stride
        stride = stride * sizes[position]
    return found.expand(lengths) if lengths else found


@ROWS.register("expand", "expand_as", "broadcast_to")
def _expand(call: Call, tensor: Any, *_: Any, **__: Any) -> Tensor:
    sizes = [dim.size for dim in call.results[0]]
    given = [dim.size for dim in tensor.dims] if isinstance(tensor, Counted) else list(tensor.shape)
    for size, other in zip(reversed(sizes), reversed(given), strict=False):
        if is_counted(size) and other != 1 and other != size:
            raise NoRule(f"expands a dim of size {other} to {size}")
    return plain(tensor).expand(call.lengths())


@ROWS.register("select.int")
def _select(call: Call, tensor: Any, dim: int, index: Any) -> Tensor:
    size, place = true_sizes(tensor)[dim], number(index)
    if not isinstance(size, torch.Tensor) and not isinstance(place, torch.Tensor):
        return call.op(plain(tensor), dim, index)  # type: ignore[no-any-return]
    place, size = as_tensor(place), as_tensor(size)
    call.check((place < size) & (place >= -size), "the index must be inside the dim")
    return take(plain(tensor), dim, torch.where(place < 0, place + size, place).reshape(1)).squeeze(dim)


@ROWS.register("slice.Tensor", bound=bound_slice)
def _slice(call: Call, tensor: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Tensor:
    size = true_sizes(tensor)[dim]
    first, stop = (_clamp(number(value), size, default) for value, default in ((start, 0), (end, size)))
    if not any(isinstance(value, torch.Tensor) for value in (first, stop)):
        return call.op(plain(tensor), dim, start, end, step)  # type: ignore[no-any-return]
    count = torch.div((as_tensor(stop) - first + (step - 1)).clamp(min=0), step, rounding_mode="floor")
    return _take_from(call, tensor, dim, first, step, count)


def _clamp(value: Any, size: Any, default: Any) -> Any:
    """Return the bound of a slice as Python reads it."""
    value = default if value is None else value
    if not any(isinstance(each, torch.Tensor) for each in (value, size)):
        if isinstance(value, int) and value == 0:
            return 0
        value, size = as_tensor(value), as_tensor(size)
    value, size = as_tensor(value), as_tensor(size)
    return torch.minimum(torch.where(value < 0, value + size, value).clamp(min=0), size)


@ROWS.register("narrow.default", bound=bound_slice)
def _narrow(call: Call, tensor: Any, dim: int, start: Any, length: Any) -> Tensor:
    size, first, count = as_tensor(true_sizes(tensor)[dim]), as_tensor(number(start)), as_tensor(number(length))
    first = torch.where(first < 0, first + size, first)
    call.check((first >= 0) & (count >= 0) & (first + count <= size), "the slice must be inside the dim")
    return _take_from(call, tensor, dim, first, 1, count)


def _take_from(call: Call, tensor: Any, dim: int, first: Any, step: int, count: Tensor) -> Tensor:
    position = dim % len(call.results[0])
    call.decide(count, 0, position)
    return take(plain(tensor), dim, first + step * torch.arange(call.lengths()[position]))


@ROWS.register("split_with_sizes", "split.sizes")
def _split_with_sizes(call: Call, tensor: Any, sizes: Sequence[Any], dim: int = 0) -> list[Tensor]:
    first, found = torch.zeros((), dtype=torch.int64), []
    counts = [as_tensor(number(size)) for size in sizes]
    for number_, count in enumerate(counts):
        length = call.lengths(number_)[dim % len(call.results[number_])]
        found.append(take(plain(tensor), dim, first + torch.arange(length)))
        first = first + count
    call.check(first == as_tensor(true_sizes(tensor)[dim]), "the parts of a split must have the size of the dim together")
    return found


@ROWS.register("tensor_split.indices", bound=lambda node, shape_of: shape_of(argument(node, "self"))[argument(node, "dim")])
def _split_at(call: Call, tensor: Any, indices: Sequence[Any], dim: int = 0) -> list[Tensor]:
    size = as_tensor(true_sizes(tensor)[dim])
    ends = [as_tensor(_clamp(number(index), size, 0)) for index in indices]
    found, first = [], torch.zeros((), dtype=torch.int64)
    for part, stop in enumerate([*ends, size]):
        position = dim % len(call.results[part])
        call.decide((stop - first).clamp(min=0), part, position)
        found.append(take(plain(tensor), dim, first + torch.arange(call.lengths(part)[position])))
        first = stop
    return found


@ROWS.register("unbind.int", "split.Tensor", "chunk")
def _parts(call: Call, tensor: Counted, *args: Any) -> Any:
    dim = args[-1] if len(args) > (0 if "unbind" in str(call.op) else 1) else 0
    if tensor.has(dim):
        raise NoRule("data decide the number or the size of its parts")
    return call.op(tensor.data, *args)


@ROWS.register("flip")
def _flip(call: Call, tensor: Counted, dims: Sequence[int]) -> Tensor:
    data = tensor.data
    for dim in dims:
        count = tensor.dims[dim].count
        data = data.flip(dim) if count is None else take(data, dim, count - 1 - torch.arange(data.shape[dim]))
    return data


@ROWS.register("roll")
def _roll(call: Call, tensor: Counted, shifts: Sequence[Any], dims: Sequence[int] = ()) -> Tensor:
    if not dims:
        if len(tensor.dims) > 1:
            raise NoRule("rolls a tensor as if it were flat")
        dims = [0]
    data = tensor.data
    for shift, dim in zip(map(number, shifts), dims, strict=True):
        count = tensor.dims[dim].count
        if count is None:
            data = torch.roll(data, shift, dim) if isinstance(shift, int) else take(
                data, dim, (torch.arange(data.shape[dim]) - shift) % data.shape[dim])
        else:
            data = take(data, dim, (torch.arange(data.shape[dim]) - shift) % count.clamp(min=1))
    return data


@ROWS.register("repeat", "tile")
def _repeat(call: Call, tensor: Any, repeats: Sequence[Any]) -> Tensor:
    missing = [1] * (len(call.results[0]) - plain(tensor).dim())
    data, sizes = plain(tensor).reshape([*missing, *plain(tensor).shape]), [*missing, *true_sizes(tensor)]
    for position, (size, length) in enumerate(zip(sizes, call.lengths(), strict=True)):
        period = size.clamp(min=1) if isinstance(size, torch.Tensor) else size
        data = take(data, position, torch.arange(length) % period)
    return data


@ROWS.register("diagonal.default")
def _diagonal(call: Call, tensor: Counted, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """Take the diagonal of the padded tensor up to the true length: it begins with that of the true tensor."""
    length = call.lengths()[-1]
    found = tensor.data.diagonal(offset, dim1, dim2)
    return take(found, -1, torch.arange(length))


@ROWS.register("unfold.default")
def _unfold(call: Call, tensor: Counted, dimension: int, size: Any, step: Any) -> Tensor:
    if not isinstance(size, int) or not isinstance(step, int):
        raise NoRule("takes windows of a size that data decide")
    return call.op(tensor.data, dimension, size, step)  # type: ignore[no-any-return]


@ROWS.register("tril", "triu")
def _triangle(call: Call, tensor: Counted, diagonal: Any = 0) -> Tensor:
    if isinstance(diagonal, Number):
        raise NoRule("takes a diagonal that data decide")
    return call.op(tensor.data, diagonal)  # type: ignore[no-any-return]


@ROWS.register("constant_pad_nd", "pad")
def _pad(call: Call, tensor: Counted, pad: Sequence[Any], *args: Any) -> Tensor:
    mode = args[0] if args and isinstance(args[0], str) else "constant"
    value = next((each for each in args if isinstance(each, int | float)), 0)
    if mode != "constant" or any(isinstance(each, Number) for each in pad):
        raise NoRule("pads a tensor by other values than a constant, or by numbers that data decide")
    data, rank = tensor.data, len(tensor.dims)
    for index in range(len(pad) // 2):
        position, (before, after) = rank - 1 - index, (pad[2 * index], pad[2 * index + 1])
        count = tensor.dims[position].count
        if count is None:
            widths = [0] * (2 * index) + [before, after]
            data = torch.nn.functional.pad(data, widths, value=value)
            continue
        places = torch.arange(call.lengths()[position]) - before
        shape = [1] * rank
        shape[position] = -1
        inside = ((places >= 0) & (places < count)).reshape(shape)
        data = torch.where(inside, take(data, position, places), torch.full((), value, dtype=data.dtype))
    return data
