"""Conversion of dataclasses to plain JSON data and back."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any


def plain(value: Any) -> Any:
    """Convert a dataclass of plain values to JSON data, without type names."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    if is_dataclass(kind):
        return {name: plain(getattr(value, name)) for name in _names(kind)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


_SCALARS = frozenset({str, int, float, bool, type(None)})


@cache
def _names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


@cache
def type_hints(kind: type) -> Mapping[str, Any]:
    """Resolve the types of a dataclass's fields."""
    return typing.get_type_hints(kind)


def structured(kind: Any, data: Any) -> Any:
    """Build an instance of the dataclass or container type `kind` from `data`. The inverse of `plain`; the data must already fit."""
    return _reader(kind)(data)


@cache
def _reader(kind: Any) -> Callable[[Any], Any]:
    """Build the function that converts plain data to a `kind`. Cached by type, because a report reads the same types some 100,000 times."""
    if isinstance(kind, type) and is_dataclass(kind):
        return _dataclass_reader(kind)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        inner = [argument for argument in arguments if is_dataclass(argument)]
        return _if_mapping(inner[0]) if inner else _as_is
    if origin in (tuple, Sequence):
        return _tuple_reader(arguments[0])
    if arguments and is_dataclass(arguments[-1]):
        return _mapping_reader(arguments[-1])
    return _as_is


def _as_is(data: Any) -> Any:
    return data


def _dataclass_reader(kind: Any) -> Callable[[Any], Any]:
    hints = type_hints(kind)
    needed = [field.name for field in fields(kind) if field.default is MISSING and field.default_factory is MISSING]

    def read(data: Any) -> Any:
        given = {name: _reader(hints[name])(data[name]) for name in _names(kind) if name in data}
        if missing := [name for name in needed if name not in given]:
            raise TypeError(f"{kind.__name__} needs {', '.join(missing)}")
        return kind(**given)

    return read


def _if_mapping(kind: Any) -> Callable[[Any], Any]:
    return lambda data: structured(kind, data) if isinstance(data, Mapping) else data


def _tuple_reader(item: Any) -> Callable[[Any], Any]:
    return lambda data: tuple(map(_reader(item), data)) if isinstance(data, list | tuple) else data


def _mapping_reader(item: Any) -> Callable[[Any], Any]:
    return lambda data: {key: structured(item, value) for key, value in data.items()} if isinstance(data, Mapping) else data
