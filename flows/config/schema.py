"""Bounds of the numeric keys of the configuration, and the types of its keys."""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from lowering.fitting import Keys, is_abstract
from lowering.plain import resolve_type_hints
from lowering.trees import Input, Tree, is_leaf


@dataclass(frozen=True)
class Bounds:
    """The bounds of a numeric field, or of the items of a sequence. strict: whether the lower bound itself is excluded."""

    least: float
    most: float
    strict: bool = False

    def __str__(self) -> str:
        lowest = f"more than {self.least:.12g}" if self.strict else f"{self.least:.12g} or more"
        return lowest if self.most == math.inf else f"{lowest}, and at most {self.most:.12g}"

    def admits(self, number: float) -> bool:
        """Return whether a number is finite and within the bounds."""
        return (number > self.least if self.strict else number >= self.least) and number <= self.most and number < math.inf


def at_least(value: float, default: Any, most: float = math.inf, fix: str = "") -> Any:
    """Return a dataclass field for numbers from `value` to `most`. fix: of what is no such number."""
    return dataclasses.field(default=default, metadata={"bounds": Bounds(value, most), "fix": fix})


def more_than(value: float, default: Any, most: float = math.inf, fix: str = "") -> Any:
    """Return a dataclass field for numbers greater than `value`, up to `most`. fix: of what is no such number."""
    return dataclasses.field(default=default, metadata={"bounds": Bounds(value, most, strict=True), "fix": fix})


def narrow(kind: Any, data: Any) -> Any:
    """Return `kind`, or the type of a leaf if `data` is a leaf of a tree."""
    return Input if kind is Tree and isinstance(data, Mapping) and is_leaf(data) else kind


def get_field_names(kind: Any) -> tuple[str, ...]:
    """Return the keys that a mapping of type `kind` declares; none for a free mapping."""
    record = _find_member(kind, is_dataclass)
    return tuple(field.name for field in fields(record)) if record else ()


def get_inner_type(kind: Any, key: str) -> Any:
    """Return the type of the value at `key` of a mapping of type `kind`; Any if it is not declared."""
    if kind is Tree:
        return Tree
    record = _find_member(kind, is_dataclass)
    if record:
        return resolve_type_hints(record).get(key, Any)
    mapping = _find_member(kind, lambda member: is_abstract(typing.get_origin(member), Mapping))
    return typing.get_args(mapping)[1] if mapping else Any


def split_keys(dotted: str) -> Keys:
    """Split a dotted path such as `inputs.x.shape[0]` into keys."""
    return tuple(int(index) if index else name for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", dotted))


def remove_keys(data: Any, keys: Keys) -> Any:
    """Return `data` without the value at `keys`, if it has one."""
    if isinstance(data, Mapping) and keys and keys[0] in data:
        kept = {key: value for key, value in data.items() if key != keys[0]}
        return kept if len(keys) == 1 else {**data, keys[0]: remove_keys(data[keys[0]], keys[1:])}
    if isinstance(data, list) and len(keys) > 1 and isinstance(keys[0], int) and keys[0] < len(data):  # the items keep their places
        return [remove_keys(item, keys[1:]) if index == keys[0] else item for index, item in enumerate(data)]
    return data


def _find_member(kind: Any, test: Callable[[Any], bool]) -> Any:
    """Return `kind`, or the first member of the union `kind`, that passes `test`; None if none does."""
    members = typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)
    return next((member for member in members if test(member)), None)
