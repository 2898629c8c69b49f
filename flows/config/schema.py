"""Checks of plain data against dataclasses and types. Each misfit names the key and the expected kind of value."""

from __future__ import annotations

import dataclasses
import math
import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields, is_dataclass
from typing import Any, Literal

from lowering.errors import suggest
from lowering.plain import resolve_type_hints
from lowering.trees import Input, Tree, is_leaf

Keys = tuple[str | int, ...]
MANDATORY = "???"
NAMES = {int: "an integer", float: "a number", str: "a string", bool: "true or false", type(None): "null"}


@dataclass(frozen=True)
class Bounds:
    """The bounds of a numeric field. strict: whether the lower bound itself is excluded."""

    least: float
    most: float
    strict: bool = False

    def __str__(self) -> str:
        lowest = f"more than {self.least:g}" if self.strict else f"{self.least:g} or more"
        return lowest if self.most == math.inf else f"{lowest}, and at most {self.most:.12g}"

    def admits(self, number: float) -> bool:
        """Return whether a number is finite and within the bounds."""
        return (number > self.least if self.strict else number >= self.least) and number <= self.most and number < math.inf


def at_least(value: float, default: Any, most: float = math.inf) -> Any:
    """Return a dataclass field for numbers from `value` to `most`."""
    return dataclasses.field(default=default, metadata={"bounds": Bounds(value, most)})


def more_than(value: float, default: Any, most: float = math.inf) -> Any:
    """Return a dataclass field for numbers greater than `value`, up to `most`."""
    return dataclasses.field(default=default, metadata={"bounds": Bounds(value, most, strict=True)})


class Misfit(typing.NamedTuple):
    """A wrong value at `keys`, with its cause and a fix."""

    keys: Keys
    cause: str
    fix: str = ""


def find_misfits(kind: Any, data: Any, keys: Keys = ()) -> Iterator[Misfit]:
    """Yield every misfit of `data` (mappings, lists, scalars) with `kind` (a dataclass or a type of plain values)."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        yield from _check_filled(data, keys)
    elif isinstance(data, str) and data == MANDATORY:
        yield Misfit(keys, "is mandatory and has no value", f"set it: {describe(kind)}")
    elif kind is Tree:
        for at, part, cause, fix in Tree.find_parts(data, keys):
            yield from [Misfit(at, cause, fix)] if cause else find_misfits(Input, part, at)
    elif is_dataclass(kind):
        yield from _check_record(kind, data, keys)
    elif origin in (typing.Union, types.UnionType):
        yield from _check_union(arguments, data, keys)
    elif origin is Literal:
        if data not in arguments or isinstance(data, bool) is not any(data is choice for choice in arguments if isinstance(choice, bool)):
            yield Misfit(keys, f"{format_value(data)} is not {describe(kind)}", suggest(str(data), map(str, arguments)))
    elif is_abstract(origin or kind, Sequence):
        if isinstance(data, str) or not isinstance(data, Sequence):
            yield Misfit(keys, f"{format_value(data)} is not a list")
        else:
            for index, item in enumerate(data):
                yield from find_misfits(arguments[0] if arguments else Any, item, (*keys, index))
    elif is_abstract(origin or kind, Mapping):
        if not isinstance(data, Mapping):
            yield Misfit(keys, f"{format_value(data)} is not a mapping")
        else:
            for key, item in data.items():
                if arguments and arguments[0] is str and not isinstance(key, str):
                    yield Misfit((*keys, key), f"the key {format_value(key)} is not a string", "put it in quotes")
                else:
                    yield from find_misfits(arguments[1] if arguments else Any, item, (*keys, key))
    elif not _is_scalar(kind, data):
        yield Misfit(keys, f"{format_value(data)} is not {describe(kind)}")


def describe(kind: Any) -> str:
    """Return `kind` in words: `an integer or null`, `one of lazy, core`."""
    arguments = typing.get_args(kind)
    if typing.get_origin(kind) in (typing.Union, types.UnionType):
        return " or ".join(describe(argument) for argument in arguments)
    if typing.get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, arguments))}" if len(arguments) > 1 else str(arguments[0])
    if is_dataclass(kind):
        return f"a mapping with {', '.join(field.name for field in fields(kind))}"
    if kind in NAMES:
        return NAMES[kind]
    return "a mapping" if is_abstract(typing.get_origin(kind) or kind, Mapping) else "a list"


def format_value(data: Any) -> str:
    """Return a value as YAML would write it, shortened to fit a line."""
    text = {None: "null", True: "true", False: "false"}.get(data, repr(data)) if isinstance(data, bool | None) else repr(data)
    return text if len(text) <= 80 else text[:77] + "..."


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


def is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def _find_member(kind: Any, test: Callable[[Any], bool]) -> Any:
    """Return `kind`, or the first member of the union `kind`, that passes `test`; None if none does."""
    members = typing.get_args(kind) if typing.get_origin(kind) in (typing.Union, types.UnionType) else (kind,)
    return next((member for member in members if test(member)), None)


def _check_record(kind: Any, data: Any, keys: Keys) -> Iterator[Misfit]:
    if not isinstance(data, Mapping):
        yield Misfit(keys, f"{format_value(data)} is not {describe(kind)}")
        return
    hints = resolve_type_hints(kind)
    known = {field.name: field for field in fields(kind)}
    for key, item in data.items():
        if key in known:
            found = list(find_misfits(hints[key], item, (*keys, key)))
            bounds = known[key].metadata.get("bounds")
            if not found and bounds and item is not None and not bounds.admits(item):
                found = [Misfit((*keys, key), f"{format_value(item)} is not {bounds}")]
            yield from found
        else:
            yield Misfit((*keys, key), "is not a known key", suggest(str(key), known) or f"known: {', '.join(known)}")
    for name, field in known.items():
        if name not in data and is_required(field):
            yield Misfit((*keys, name), "is missing", describe(hints[name]))


def _check_union(members: tuple[Any, ...], data: Any, keys: Keys) -> Iterator[Misfit]:
    found = [list(find_misfits(member, data, keys)) for member in members]
    if not all(found):
        return
    # Report the member closest to data: one whose misfits are inside data, else one that suggests words, else the whole union.
    inside = [complaints for complaints in found if all(complaint.keys != keys for complaint in complaints)]
    worded = [complaints for complaints in found if complaints[0].fix]
    if inside or worded:
        yield from (inside or worded)[0]
    else:
        yield Misfit(keys, f"{format_value(data)} is not {describe(typing.Union[members])}")  # noqa: UP007


def _check_filled(data: Any, keys: Keys) -> Iterator[Misfit]:
    if isinstance(data, Mapping):
        for key, item in data.items():
            yield from _check_filled(item, (*keys, key))
    elif isinstance(data, list | tuple):
        for index, item in enumerate(data):
            yield from _check_filled(item, (*keys, index))
    elif isinstance(data, str) and data == MANDATORY:
        yield Misfit(keys, "is mandatory and has no value", "set it in the file or on the command line")


def _is_scalar(kind: Any, data: Any) -> bool:
    if kind is float:
        return isinstance(data, int | float) and not isinstance(data, bool)
    if kind is int:
        return isinstance(data, int) and not isinstance(data, bool)
    return isinstance(data, kind)


def is_abstract(kind: Any, base: type) -> bool:
    return isinstance(kind, type) and issubclass(kind, base) and kind not in (str, bytes)
