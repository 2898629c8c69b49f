"""Checks of plain data from a record against the type of a dataclass: readers refuse damaged records, instead of failing later."""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from typing import Any, Literal

from lowering.plain import resolve_type_hints

Check = Callable[[Any, str], str]
LARGEST = 1 << 63  # of integers in a record: databases and clocks take no larger ones
_WORDS = {int: "an integer", float: "a number", str: "a text", bool: "true or false", type(None): "null"}


def find_misfit(kind: Any, data: Any) -> str:
    """Return the first place where `data` does not fit `kind`, with the cause: `stages[0].seconds: 'x' is not a number`; empty if it fits.

    Keys that `kind` does not declare are ignored, as in records of later versions.
    """
    return _build(kind)(data, "")


@cache
def _build(kind: Any) -> Check:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if isinstance(kind, type) and is_dataclass(kind):
        return _build_record(kind)
    if origin in (typing.Union, types.UnionType):
        return _build_union(arguments)
    if origin is Literal:
        words = f"one of {', '.join(map(str, arguments))}"
        return lambda data, place: "" if isinstance(data, str | int | None) and data in arguments else _tell(place, data, words)
    if origin in (tuple, list, Sequence):
        return _build_list(_build(arguments[0]))
    if origin is Mapping or origin is dict:
        return _build_mapping(_build(arguments[1]))
    if kind in _WORDS:
        return _build_scalar(kind)
    return lambda data, place: ""


def _build_record(kind: Any) -> Check:
    hints = resolve_type_hints(kind)
    checks = {field.name: _build(hints[field.name]) for field in fields(kind)}
    needed = [field.name for field in fields(kind) if field.default is MISSING and field.default_factory is MISSING]

    def check(data: Any, place: str) -> str:
        if not isinstance(data, Mapping):
            return _tell(place, data, "a mapping")
        for name in needed:
            if name not in data:
                return f"{_join(place, name)}: is missing"
        for name, inner in checks.items():
            if name in data and (found := inner(data[name], _join(place, name))):
                return found
        return ""

    return check


def _build_union(members: tuple[Any, ...]) -> Check:
    inner = [_build(member) for member in members if member is not type(None)]
    optional = type(None) in members

    def check(data: Any, place: str) -> str:
        if data is None and optional:
            return ""
        found = [one(data, place) for one in inner]
        return "" if not all(found) else found[0]

    return check


def _build_list(inner: Check) -> Check:
    def check(data: Any, place: str) -> str:
        if not isinstance(data, list | tuple):
            return _tell(place, data, "a list")
        return next((found for index, item in enumerate(data) if (found := inner(item, f"{place}[{index}]"))), "")

    return check


def _build_mapping(inner: Check) -> Check:
    def check(data: Any, place: str) -> str:
        if not isinstance(data, Mapping):
            return _tell(place, data, "a mapping")
        return next((found for name, item in data.items() if (found := inner(item, _join(place, name)))), "")

    return check


def _build_scalar(kind: Any) -> Check:
    allowed: tuple[type, ...] = (int, float) if kind is float else (kind,)

    def check(data: Any, place: str) -> str:
        fits = isinstance(data, allowed) and (kind is bool or not isinstance(data, bool))
        if fits and isinstance(data, int) and abs(data) >= LARGEST:
            fits = False
        return "" if fits else _tell(place, data, _WORDS[kind])

    return check


def _join(place: str, name: Any) -> str:
    return f"{place}.{name}" if place else str(name)


def _tell(place: str, data: Any, wanted: str) -> str:
    text = repr(data)
    return f"{place}: {text if len(text) <= 60 else text[:57] + '...'} is not {wanted}"
