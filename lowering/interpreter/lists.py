"""Lists of TorchScript that are as long as a dynamic dim: a run of elements is one tensor, whose slices along dim 0 they are."""

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
    """Stands for a list inside the loop that appends to it: what it holds there differs from turn to turn."""

    def __init__(self, added: Sequence[Any] = ()) -> None:
        self.added = list(added)


class OfUnknownLength:
    """In a list: elements, and how many of them a tensor's values decided. Nothing that needs them can be computed."""


class Unreadable(Exception):  # says what was asked
    """A list is asked for what only a run of the program can tell."""


def is_dynamic(number: Any) -> bool:
    """Whether a number is known only when the program runs."""
    return isinstance(number, torch.SymInt | torch.SymFloat | torch.SymBool) and bool(number.node.expr.free_symbols)


def is_from_data(number: Any) -> bool:
    """Whether a number is known from a tensor's values or a loop's turn alone: it is no function of the dims."""
    return isinstance(number, torch.SymInt | torch.SymFloat | torch.SymBool) and bool(free_unbacked_symbols(number))


def length(values: Sequence[Any]) -> Any:
    return sum(value.tensor.shape[0] if isinstance(value, Rows) else 1 for value in values)


def stacked(values: Sequence[Any]) -> Tensor:
    """All elements along a new dim 0."""
    parts = [value.tensor if isinstance(value, Rows) else value.unsqueeze(0) for value in values]
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def unbound(tensor: Tensor, dim: int = 0) -> list[Any]:
    """The slices of a tensor along a dim, as a list."""
    if is_dynamic(tensor.shape[dim]):
        return [Rows(tensor.movedim(dim, 0))]
    return list(tensor.unbind(dim))


def taken(values: Sequence[Any], place: Any) -> Any:
    """The element at a place, which may be known only when the program runs."""
    if not is_dynamic(place) and not any(isinstance(value, Rows) for value in _passed(values, place)):
        return values[place]
    if not all(isinstance(value, Tensor | Rows) for value in values):
        raise Unreadable("a list that holds no tensors is read at a place that is only known when the program runs")
    return indexing.select(stacked(values), 0, place) if is_from_data(place) else torch.select(stacked(values), 0, place)


def _passed(values: Sequence[Any], place: int) -> Sequence[Any]:
    """What is between the end that a place is counted from and the place itself."""
    return values[: place + 1] if place >= 0 else values[place:]


def stack(values: Sequence[Any], dim: int = 0) -> Tensor:
    whole = stacked(values)
    return whole.movedim(0, dim % whole.dim())


def cat(values: Sequence[Any], dim: int = 0) -> Tensor:
    parts = [_joined(value.tensor, dim) if isinstance(value, Rows) else value for value in values]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim)


def _joined(rows: Tensor, dim: int) -> Tensor:
    """The slices of dim 0 one after the other along dim `dim` of theirs."""
    place = dim % (rows.dim() - 1)
    return rows.movedim(0, place).flatten(place, place + 1)


def sliced(values: Sequence[Any], start: Any, stop: Any, step: int) -> list[Any]:
    if step == -1 and start is None and stop is None:
        return _reversed(values)
    if step < 0:
        raise Unreadable("a list that is as long as a dynamic dim is sliced backwards from a place")
    return [Rows(stacked(values)[start:stop:step])]


def _reversed(values: Sequence[Any]) -> list[Any]:
    return [Rows(value.tensor.flip(0)) if isinstance(value, Rows) else value for value in reversed(values)]


def _reverse(values: list[Any]) -> None:
    values[:] = _reversed(values)


def _append(values: Growing, value: Any) -> Growing:
    values.added.append(value)
    return values


def _extend(values: Growing, more: list[Any]) -> Growing:
    values.added.extend(more)
    return values


# Kinds on a list that grows in the loop.
_OF_GROWING: dict[str, Function] = {
    "aten::append": _append, "aten::extend": _extend, "aten::add_": _extend, "aten::add": lambda values, more: Growing([*values.added, *more]),
}  # fmt: skip


def _refuse_growing(*_: Any) -> Any:
    raise Unreadable("reads a list in the loop that appends to it: carry the element that is needed in a variable of its own")


def _refuse_rows(*_: Any) -> Any:
    raise Unreadable(f"has no form for a list that is as long as a dynamic dim; those that have: {', '.join(sorted(_OF_ROWS))}")


def _refuse_unknown(*_: Any) -> Any:
    raise Unreadable("the length of this list is decided by a tensor's values")


# Kinds on lists with a run in them.
_OF_ROWS: dict[str, Function] = {
    "aten::len": length, "aten::stack": stack, "aten::cat": cat, "aten::slice": sliced, "aten::reverse": _reverse, "aten::__getitem__": taken,
    "aten::append": lambda values, value: values.append(value) or values, "aten::extend": lambda values, more: values.extend(more),
    "aten::add": lambda one, other: one + other, "aten::add_": lambda one, other: one.extend(other) or one, "aten::copy": list, "aten::list": list,
}  # fmt: skip


def function_of(kind: str, values: list[Any]) -> Function | None:
    """What computes `kind` where a list's length or a place in it is dynamic; None where no list is, or neither."""
    if _hold(values, OfUnknownLength):
        return _refuse_unknown
    if values and isinstance(values[0], Growing):
        return _OF_GROWING.get(kind, _refuse_growing)
    if kind == "aten::unbind" and is_dynamic(values[0].shape[values[1]]):
        return unbound
    if kind == "aten::__getitem__" and isinstance(values[0], list | tuple) and is_dynamic(values[1]):
        return taken
    if _hold(values, Rows):
        return _OF_ROWS.get(kind, _refuse_rows)
    return None


def _hold(values: list[Any], kind: type) -> bool:
    return any(isinstance(value, list) and any(isinstance(element, kind) for element in value) for value in values)
