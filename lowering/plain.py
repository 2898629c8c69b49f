"""Conversion of dataclasses to plain JSON data and back."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any


def to_plain(value: Any) -> Any:
    """Convert a dataclass of plain values to JSON data, without type names."""
    kind = type(value)
    if kind in _SCALARS:
        return value
    if is_dataclass(kind):
        return {name: to_plain(getattr(value, name)) for name in _field_names(kind)}
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    return [to_plain(item) for item in value] if isinstance(value, list | tuple) else value


_SCALARS = frozenset({str, int, float, bool, type(None)})


@cache
def _field_names(kind: type) -> tuple[str, ...]:
    return tuple(field.name for field in fields(kind))


@cache
def resolve_type_hints(kind: type) -> Mapping[str, Any]:
    """Resolve the types of a dataclass's fields."""
    return typing.get_type_hints(kind)


def from_plain(kind: Any, data: Any) -> Any:
    """Build an instance of the dataclass or container type `kind` from `data`. The inverse of `to_plain`; the data must already fit."""
    return _build_reader(kind)(data)


@cache
def _build_reader(kind: Any) -> Callable[[Any], Any]:
    """Build the function that converts plain data to a `kind`. Cached by type, because a report reads the same types some 100,000 times."""
    if isinstance(kind, type) and is_dataclass(kind):
        return _build_dataclass_reader(kind)
    if hasattr(kind, "read_plain"):  # a type that reads its plain data itself
        return kind.read_plain  # type: ignore[no-any-return]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        inner = [argument for argument in arguments if is_dataclass(argument)]
        return _build_optional_reader(inner[0]) if inner else _return_unchanged
    if origin in (tuple, Sequence):
        return _build_tuple_reader(arguments[0])
    if origin in (Mapping, dict) and _build_reader(arguments[-1]) is not _return_unchanged:
        return _build_mapping_reader(arguments[-1])
    return _return_unchanged


def _return_unchanged(data: Any) -> Any:
    return data


def _build_dataclass_reader(kind: Any) -> Callable[[Any], Any]:
    hints = resolve_type_hints(kind)
    needed = [field.name for field in fields(kind) if field.default is MISSING and field.default_factory is MISSING]

    def read(data: Any) -> Any:
        given = {name: _build_reader(hints[name])(data[name]) for name in _field_names(kind) if name in data}
        if missing := [name for name in needed if name not in given]:
            raise TypeError(f"{kind.__name__} needs {', '.join(missing)}")
        return kind(**given)

    return read


def _build_optional_reader(kind: Any) -> Callable[[Any], Any]:
    return lambda data: from_plain(kind, data) if isinstance(data, Mapping) else data


def _build_tuple_reader(item: Any) -> Callable[[Any], Any]:
    return lambda data: tuple(map(_build_reader(item), data)) if isinstance(data, list | tuple) else data


def _build_mapping_reader(item: Any) -> Callable[[Any], Any]:
    return lambda data: {key: from_plain(item, value) for key, value in data.items()} if isinstance(data, Mapping) else data
