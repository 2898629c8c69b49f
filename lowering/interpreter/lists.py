"""TorchScript lists as long as a dynamic dim. A run of elements is one tensor, and the elements are its slices along dim 0."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

from lowering.ops import indexing

Tensor: TypeAlias = torch.Tensor
Function: TypeAlias = Callable[..., Any]


@dataclass(frozen=True)
class Rows:
    """In a list: the elements `tensor[0]`, `tensor[1]`, ..., as many as dim 0 has."""

    tensor: Tensor


class Growing:
    """Replaces a list inside the loop that appends to it, where its content differs from iteration to iteration."""

    def __init__(self, added: Sequence[Any] = ()) -> None:
        self.added = list(added)


class OfUnknownLength:
    """In a list: elements whose number depends on tensor values. Nothing that needs them can be computed."""


class Unreadable(Exception):  # the message names the operation
    """An operation on a list needs something that is only known at run time."""


def is_dynamic(number: Any) -> bool:
    """Return whether a number is only known at run time."""
    return isinstance(number, torch.SymInt | torch.SymFloat | torch.SymBool) and bool(number.node.expr.free_symbols)


def is_data_dependent(number: Any) -> bool:
    """Return whether a number depends on tensor values or on the iteration of a loop, so that it is not a function of the dims."""
    return isinstance(number, torch.SymInt | torch.SymFloat | torch.SymBool) and bool(free_unbacked_symbols(number))


def length(values: Sequence[Any]) -> Any:
    """Return the number of elements."""
    return sum(value.tensor.shape[0] if isinstance(value, Rows) else 1 for value in values)


def stack_all(values: Sequence[Any]) -> Tensor:
    """Stack all elements along a new dim 0."""
    parts = [value.tensor if isinstance(value, Rows) else value.unsqueeze(0) for value in values]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def unbind(tensor: Tensor, dim: int = 0) -> list[Any]:
    """Return the slices of a tensor along a dim, as a list."""
    if is_dynamic(tensor.shape[dim]):
        return [Rows(tensor.movedim(dim, 0))]
    return list(tensor.unbind(dim))


def get_item(values: Sequence[Any], place: Any) -> Any:
    """Return the element at an index, which may only be known at run time."""
    if not is_dynamic(place) and not any(isinstance(value, Rows) for value in _elements_up_to(values, place)):
        return values[place]
    if not all(isinstance(value, Tensor | Rows) for value in values):
        raise Unreadable("a list that contains more than tensors is read at an index that is only known at run time")
    return indexing.select(stack_all(values), 0, place) if is_data_dependent(place) else torch.select(stack_all(values), 0, place)


def _elements_up_to(values: Sequence[Any], place: int) -> Sequence[Any]:
    """Return the elements from the end that an index counts from up to the index itself."""
    return values[: place + 1] if place >= 0 else values[place:]


def stack(values: Sequence[Any], dim: int = 0) -> Tensor:
    """Stack all elements along a new dim."""
    whole = stack_all(values)
    return whole.movedim(0, dim % whole.dim())


def cat(values: Sequence[Any], dim: int = 0) -> Tensor:
    """Concatenate all elements along a dim."""
    parts = [_concatenate(value.tensor, dim) if isinstance(value, Rows) else value for value in values]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)


def _concatenate(rows: Tensor, dim: int) -> Tensor:
    """Concatenate the slices of dim 0 along their dim `dim`."""
    place = dim % (rows.dim() - 1)
    return rows.movedim(0, place).flatten(place, place + 1)


def get_slice(values: Sequence[Any], start: Any, stop: Any, step: int) -> list[Any]:
    """Slice a list that contains rows."""
    if step == -1 and start is None and stop is None:
        return _reverse_copy(values)
    if step < 0:
        raise Unreadable("a list as long as a dynamic dim is sliced backwards from an index")
    return [Rows(stack_all(values)[start:stop:step])]


def _reverse_copy(values: Sequence[Any]) -> list[Any]:
    return [Rows(value.tensor.flip(0)) if isinstance(value, Rows) else value for value in reversed(values)]


def _reverse(values: list[Any]) -> None:
    values[:] = _reverse_copy(values)


def _append(values: Growing, value: Any) -> Growing:
    values.added.append(value)
    return values


def _extend(values: Growing, more: list[Any]) -> Growing:
    values.added.extend(more)
    return values


# Kinds of nodes on a list that grows in the loop.
_OF_GROWING: dict[str, Function] = {
    "aten::append": _append, "aten::extend": _extend, "aten::add_": _extend,
    "aten::add": lambda values, more: Growing([*values.added, *more]),
}  # fmt: skip


def _refuse_growing(*_: Any) -> Any:
    raise Unreadable("reads a list in the loop that appends to it: carry the element that is needed in a separate variable")


def _refuse_rows(*_: Any) -> Any:
    raise Unreadable(f"is not supported for a list as long as a dynamic dim; supported: {', '.join(sorted(_OF_ROWS))}")


def _refuse_unknown(*_: Any) -> Any:
    raise Unreadable("the length of this list depends on a tensor's values")


# Kinds of nodes on lists that contain rows.
_OF_ROWS: dict[str, Function] = {
    "aten::len": length, "aten::stack": stack, "aten::cat": cat, "aten::slice": get_slice, "aten::reverse": _reverse,
    "aten::__getitem__": get_item, "aten::copy": list, "aten::list": list,
    "aten::append": lambda values, value: values.append(value) or values, "aten::extend": lambda values, more: values.extend(more),
    "aten::add": lambda one, other: one + other, "aten::add_": lambda one, other: one.extend(other) or one,
}  # fmt: skip


def find_function(kind: str, values: list[Any]) -> Function | None:
    """Return the function that computes `kind` if a list has a dynamic length or is read at a dynamic index, else None."""
    if _contain(values, OfUnknownLength):
        return _refuse_unknown
    if values and isinstance(values[0], Growing):
        return _OF_GROWING.get(kind, _refuse_growing)
    if kind == "aten::unbind" and is_dynamic(values[0].shape[values[1]]):
        return unbind
    if kind == "aten::__getitem__" and isinstance(values[0], list | tuple) and is_dynamic(values[1]):
        return get_item
    if _contain(values, Rows):
        return _OF_ROWS.get(kind, _refuse_rows)
    return None


def _contain(values: list[Any], kind: type) -> bool:
    return any(isinstance(value, list) and any(isinstance(element, kind) for element in value) for value in values)
