"""TorchScript's ops on numbers, lists, dicts, strings and tensor properties as Python functions, one row per kind.

Ops on tensors need no row: torch runs them by their schema. Sizes stay symbolic: no function turns one into an int.
"""

from __future__ import annotations

import collections
import functools
import math
import operator
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.fx.experimental.symbolic_shapes import statically_known_true

from lowering import types

Function = Callable[..., Any]

UNINITIALIZED = object()  # the value of a variable that no branch has assigned yet


def _length(value: Any) -> Any:
    return value.shape[0] if isinstance(value, torch.Tensor) else len(value)


def _size(value: torch.Tensor, dim: int | None = None) -> Any:
    return list(value.shape) if dim is None else value.shape[dim]


def _number(value: Any) -> Any:
    return value.item() if isinstance(value, torch.Tensor) else value


def _int(value: Any) -> Any:
    value = _number(value)
    return int(value) if isinstance(value, bool | str) else torch.sym_int(value)


def _float(value: Any) -> Any:
    value = _number(value)
    return float(value) if isinstance(value, bool | str) else torch.sym_float(value)


def _bool(value: Any) -> Any:
    """Return a value as a bool. Under torch.export, a tensor's value stays a tensor, and `if` computes both branches."""
    if isinstance(value, torch.Tensor) and torch.compiler.is_exporting():
        return value.reshape(()) != 0
    value = _number(value)
    return value if isinstance(value, bool | torch.SymBool) else value != 0


def _not(value: Any) -> Any:
    return torch.logical_not(value) if isinstance(value, torch.Tensor) else torch.sym_not(value)


def _raise(message: str, *_: Any) -> None:
    raise RuntimeError(message)


def _set_item(container: Any, key: Any, value: Any) -> Any:
    container[key] = value
    return container


def _append(container: list[Any], value: Any) -> list[Any]:
    container.append(value)
    return container


def _delete(container: Any, key: Any) -> None:
    del container[key]


def _slice(container: Any, start: Any, stop: Any, step: Any) -> Any:
    return container[start:stop:step]


def _maximum(*values: Any) -> Any:
    """Return the largest value. If the ranges decide which one that is, no choice is left to run time."""
    given = values[0] if len(values) == 1 else values
    return functools.reduce(lambda one, other: _choose(torch.sym_max, other, one, one <= other), given)


def _minimum(*values: Any) -> Any:
    given = values[0] if len(values) == 1 else values
    return functools.reduce(lambda one, other: _choose(torch.sym_min, one, other, one <= other), given)


def _choose(choose: Function, if_so: Any, if_not: Any, condition: Any) -> Any:
    if statically_known_true(condition):
        return if_so
    return if_not if statically_known_true(torch.sym_not(condition)) else choose(if_so, if_not)


def _on_bools(function: Function) -> Function:
    """Return `function` on bools, which converts both operands to tensors if one of them is a tensor."""

    def compute(one: Any, other: Any) -> Any:
        given = (one, other) if not any(isinstance(value, torch.Tensor) for value in (one, other)) else (to_tensor(one), to_tensor(other))
        return function(*given)

    return compute


def to_tensor(value: Any) -> Any:
    """Return a bool or float as a 0-d tensor, and all other values as they are."""
    if isinstance(value, torch.SymBool):
        return torch.scalar_tensor(torch.sym_ite(value, 1, 0), dtype=torch.int64) != 0
    if isinstance(value, bool):
        return torch.full((), value, dtype=torch.bool)
    if isinstance(value, float | torch.SymFloat):
        return torch.scalar_tensor(value, dtype=torch.float64)
    return value


_NAMED = re.compile(r"NamedTuple\((.*)\)$", re.DOTALL)
_FIELD = re.compile(r"(?:^|, )(\w+) : ")


def make_tuple(type_: str, values: Sequence[Any]) -> tuple[Any, ...]:
    """Return a tuple of the given TorchScript type.

    A named tuple keeps its field names, which name the results of a module.
    """
    match = _NAMED.match(type_)
    return tuple(values) if match is None else _make_named_tuple(tuple(_parse_fields(match[1])))(*values)


def _parse_fields(text: str) -> Iterator[str]:
    """Yield the field names in the text of a named tuple's type, without those of nested types."""
    depth, outer = 0, ""
    for letter in text:
        depth -= letter in ")]"
        outer += letter if depth == 0 else ""
        depth += letter in "(["
    return (match[1] for match in _FIELD.finditer(outer))


@functools.cache
def _make_named_tuple(fields: tuple[str, ...]) -> Any:
    return collections.namedtuple("NamedTuple", fields)


# Kinds whose meaning does not depend on the types of their operands.
ALWAYS: dict[str, Function] = {
    "prim::ListConstruct": lambda *values: list(values),
    "prim::TupleConstruct": lambda *values: values,  # without field names; for named tuples, see tuple_of
    "prim::DictConstruct": lambda *values: dict(zip(values[::2], values[1::2], strict=True)),
    "prim::TupleIndex": operator.getitem,
    "prim::unchecked_cast": lambda value: value,
    "prim::Uninitialized": lambda: UNINITIALIZED,
    "prim::NumToTensor": lambda value: value,  # a size stays a size; ops on tensors convert numbers to tensors
    "prim::dtype": lambda value: types.find_row(value.dtype).code,
    "prim::device": lambda value: value.device,
    "prim::layout": lambda value: 0,
    "prim::is_cuda": lambda value: value.is_cuda,
    "prim::requires_grad": lambda value: value.requires_grad,
    "prim::RaiseException": _raise,
    "prim::Print": lambda *values: None,
    "aten::warn": lambda *values: None,
    "aten::size": _size,
    "aten::dim": lambda value: value.dim(),
    "aten::numel": lambda value: value.numel(),
    "aten::len": _length,
    "aten::is_floating_point": lambda value: value.is_floating_point(),
    "aten::Int": _int,
    "aten::Float": _float,
    "aten::Bool": _bool,
    "aten::ScalarImplicit": _number,
    "aten::IntImplicit": _int,
    "aten::FloatImplicit": _float,
    "aten::__and__": _on_bools(operator.and_),
    "aten::__or__": _on_bools(operator.or_),
    "aten::__xor__": _on_bools(operator.xor),
    "aten::__not__": _not,
    "aten::__is__": operator.is_,
    "aten::__isnot__": operator.is_not,
    "aten::__getitem__": operator.getitem,
    "aten::_set_item": _set_item,
    "aten::__contains__": operator.contains,
    "aten::Delete": _delete,
    "aten::append": _append,
    "aten::extend": lambda values, more: values.extend(more),
    "aten::insert": lambda values, place, value: values.insert(place, value),
    "aten::pop": lambda values, *place: values.pop(*place),
    "aten::clear": lambda values: values.clear(),
    "aten::reverse": lambda values: values.reverse(),
    "aten::list": list,
    "aten::keys": lambda values: list(values.keys()),
    "aten::values": lambda values: list(values.values()),
    "aten::items": lambda values: list(values.items()),
    "aten::get": lambda values, key, *default: values.get(key, *default),
    "aten::format": lambda template, *values: template.format(*values),
    "aten::str": str,
    "aten::__range_length": lambda start, stop, step: _maximum(0, (stop - start + step - (1 if step > 0 else -1)) // step),
    "aten::__derive_index": lambda place, start, step: start + place * step,
}

# Kinds that also name ops on tensors. These functions apply if no operand is a tensor.
WITHOUT_TENSORS: dict[str, Function] = {
    "aten::add_": operator.iadd,  # of lists
    "aten::add": lambda one, other, alpha=1: one + other if alpha == 1 else one + alpha * other,
    "aten::sub": lambda one, other, alpha=1: one - other if alpha == 1 else one - alpha * other,
    "aten::mul": operator.mul,
    "aten::div": lambda one, other, rounding_mode=None: one / other if rounding_mode is None else one // other,
    "aten::floordiv": operator.floordiv,
    "aten::floor_divide": operator.floordiv,
    "aten::remainder": operator.mod,
    "aten::pow": operator.pow,
    "aten::neg": operator.neg,
    "prim::abs": abs,
    "aten::abs": abs,
    "prim::max": _maximum,
    "prim::min": _minimum,
    "aten::eq": operator.eq,
    "aten::ne": operator.ne,
    "aten::lt": operator.lt,
    "aten::le": operator.le,
    "aten::gt": operator.gt,
    "aten::ge": operator.ge,
    "aten::logical_not": torch.sym_not,
    "aten::ceil": math.ceil,
    "aten::floor": math.floor,
    "aten::round": round,
    "aten::sqrt": math.sqrt,
    "aten::exp": math.exp,
    "aten::log": math.log,
    "aten::copy": lambda values: values.copy(),
    "aten::slice": _slice,
    "aten::any": any,
    "aten::all": all,
    "aten::sum": sum,
}


def find_function(kind: str, values: list[Any]) -> Function | None:
    """Return the function that computes `kind` on `values`, or None if torch computes it."""
    if kind in ALWAYS:
        return ALWAYS[kind]
    return WITHOUT_TENSORS.get(kind) if not any(isinstance(value, torch.Tensor) for value in values) else None
