"""Checks of plain data against dataclasses and types. Each misfit names the key and the expected kind of value.

One walker serves the configuration, whose misfits are all reported, and the records of runs, whose readers refuse damaged data instead of
failing later. Checks are built once per type, because a report reads the same types some 100,000 times.
"""

from __future__ import annotations

import math
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from functools import cache
from typing import Any, Literal

from lowering.errors import suggest
from lowering.plain import resolve_type_hints

Keys = tuple[str | int, ...]
NAMES = {int: "an integer", float: "a number", str: "a string", bool: "true or false", type(None): "null"}
DEPTH = 3  # how far below a field its own advice is of use: symbols.batch.max
MANDATORY = "???"  # in a configuration, a value that must be given elsewhere


class Misfit(typing.NamedTuple):
    """A wrong value at `keys`, with its cause and a fix."""

    keys: Keys
    cause: str
    fix: str = ""


Check = Callable[[Any, Keys], Sequence[Misfit]]


@dataclass(frozen=True)
class Rules:
    """The rules of a kind of data. is_closed: whether undeclared keys and types are misfits; unset: the text of a value that is not given.

    most: the integer that none may reach: databases and clocks take no larger ones.
    """

    is_closed: bool
    unset: str | None
    most: float


CONFIG = Rules(is_closed=True, unset=MANDATORY, most=math.inf)
RECORD = Rules(is_closed=False, unset=None, most=1 << 63)  # later versions may have added keys


def find_misfits(kind: Any, data: Any, keys: Keys = ()) -> Iterator[Misfit]:
    """Yield every misfit of configured data (mappings, lists, scalars) with `kind` (a dataclass or a type of plain values)."""
    yield from _build(kind, CONFIG)(data, keys)


def find_misfit(kind: Any, data: Any) -> str:
    """Return the first place where recorded data does not fit `kind`, with the cause; empty if it fits.

    An example is `stages[0].seconds: 'x' is not a number`.
    """
    found = _build(kind, RECORD)(data, ())
    return f"{join_keys(found[0].keys)}: {found[0].cause}" if found else ""


def join_keys(keys: Keys) -> str:
    """Return keys as a dotted path such as `inputs.x.shape[0]`."""
    text = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in keys)
    return text.removeprefix(".")


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


def is_required(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


def advised(fix: str, **options: Any) -> Any:
    """Return a dataclass field with the fix of its misfits, and of those of its items, for which no closer one is known.

    options: arguments of `dataclasses.field`.
    """
    return field(metadata={"fix": fix}, **options)


def is_abstract(kind: Any, base: type) -> bool:
    return isinstance(kind, type) and issubclass(kind, base) and kind not in (str, bytes)


@cache
def _build(kind: Any, rules: Rules) -> Check:
    """Build the check of a type."""
    if kind is Any:
        return _check_set if rules.unset else lambda data, keys: ()
    check = _build_check(kind, rules)
    if rules.unset is None:
        return check

    def check_set(data: Any, keys: Keys) -> Sequence[Misfit]:
        if isinstance(data, str) and data == rules.unset:
            return [Misfit(keys, "is mandatory and has no value", f"set it: {describe(kind)}")]
        return check(data, keys)

    return check_set


def _build_check(kind: Any, rules: Rules) -> Check:
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if hasattr(kind, "find_parts"):  # a type that walks its plain data itself
        return _build_parts(kind, rules)
    if is_dataclass(kind):
        return _build_record(kind, rules)
    if origin in (typing.Union, types.UnionType):
        return _build_union(arguments, rules)
    if origin is Literal:
        return _build_literal(kind, arguments)
    if is_abstract(origin or kind, Sequence):
        return _build_list(_build(arguments[0] if arguments else Any, rules))
    if is_abstract(origin or kind, Mapping):
        return _build_mapping(_build(arguments[1] if arguments else Any, rules), bool(arguments) and arguments[0] is str)
    return _build_scalar(kind, rules) if kind in NAMES or rules.is_closed else lambda data, keys: ()


def _check_set(data: Any, keys: Keys) -> Sequence[Misfit]:
    """Check that data of any type has no value left to be given elsewhere."""
    if isinstance(data, Mapping):
        return [misfit for key, item in data.items() for misfit in _check_set(item, (*keys, key))]
    if isinstance(data, list | tuple):
        return [misfit for index, item in enumerate(data) for misfit in _check_set(item, (*keys, index))]
    if isinstance(data, str) and data == MANDATORY:
        return [Misfit(keys, "is mandatory and has no value", "set it in the file or on the command line")]
    return ()


def _build_parts(kind: Any, rules: Rules) -> Check:
    def check(data: Any, keys: Keys) -> Sequence[Misfit]:
        inner = _build(kind.LEAF, rules)
        found: list[Misfit] = []
        for at, part, cause, fix in kind.find_parts(data, keys):
            found += [Misfit(at, cause, fix)] if cause else inner(part, at)
        return found

    return check


def _build_record(kind: Any, rules: Rules) -> Check:
    hints = resolve_type_hints(kind)
    known = {field.name: field for field in fields(kind)}
    checks = {name: (_build(hints[name], rules), field.metadata.get("bounds")) for name, field in known.items()}
    fixes = {name: field.metadata.get("fix", "") for name, field in known.items()}
    needed = [name for name, field in known.items() if is_required(field)]
    wanted = describe(kind) if rules.is_closed else "a mapping"

    def check(data: Any, keys: Keys) -> Sequence[Misfit]:
        if not isinstance(data, Mapping):
            return [Misfit(keys, f"{format_value(data)} is not {wanted}")]
        found: list[Misfit] = []
        for key, item in data.items():
            if key in checks:
                inner, bounds = checks[key]
                misfits = inner(item, (*keys, key))
                if not misfits and bounds and item is not None:
                    is_list = isinstance(item, list | tuple)
                    numbers = {(*keys, key, index): each for index, each in enumerate(item)} if is_list else {(*keys, key): item}
                    misfits = [Misfit(place, f"{format_value(each)} is not {bounds}")
                               for place, each in numbers.items() if not bounds.admits(each)]
                found += [misfit if misfit.fix or len(misfit.keys) > len(keys) + DEPTH else misfit._replace(fix=fixes[key])
                          for misfit in misfits]
            elif rules.is_closed:
                found.append(Misfit((*keys, key), "is not a known key", suggest(str(key), known) or f"known: {', '.join(known)}"))
        return found + [Misfit((*keys, name), "is missing", describe(hints[name])) for name in needed if name not in data]

    return check


def _build_union(members: tuple[Any, ...], rules: Rules) -> Check:
    checks = [_build(member, rules) for member in members]
    is_optional = type(None) in members

    def check(data: Any, keys: Keys) -> Sequence[Misfit]:
        if data is None and is_optional:
            return ()
        found: list[Sequence[Misfit]] = []
        for inner in checks:
            found.append(inner(data, keys))
            if not found[-1]:
                return ()
        # Report the member closest to data: one whose misfits are inside data, else one that suggests words, else the whole union.
        inside = [misfits for misfits in found if all(misfit.keys != keys for misfit in misfits)]
        worded = [misfits for misfits in found if misfits[0].fix]
        if inside or worded:
            return (inside or worded)[0]
        return [Misfit(keys, f"{format_value(data)} is not {describe(typing.Union[members])}")]  # noqa: UP007

    return check


def _build_literal(kind: Any, choices: tuple[Any, ...]) -> Check:
    def check(data: Any, keys: Keys) -> Sequence[Misfit]:
        if data in choices and isinstance(data, bool) is any(data is choice for choice in choices if isinstance(choice, bool)):
            return ()
        return [Misfit(keys, f"{format_value(data)} is not {describe(kind)}", suggest(str(data), map(str, choices)))]

    return check


def _build_list(inner: Check) -> Check:
    def check(data: Any, keys: Keys) -> Sequence[Misfit]:
        if isinstance(data, str) or not isinstance(data, Sequence):
            return [Misfit(keys, f"{format_value(data)} is not a list")]
        return [misfit for index, item in enumerate(data) for misfit in inner(item, (*keys, index))]

    return check


def _build_mapping(inner: Check, has_names: bool) -> Check:
    def check(data: Any, keys: Keys) -> Sequence[Misfit]:
        if not isinstance(data, Mapping):
            return [Misfit(keys, f"{format_value(data)} is not a mapping")]
        found: list[Misfit] = []
        for key, item in data.items():
            if has_names and not isinstance(key, str):
                found.append(Misfit((*keys, key), f"the key {format_value(key)} is not a string", "put it in quotes"))
            else:
                found += inner(item, (*keys, key))
        return found

    return check


def _build_scalar(kind: Any, rules: Rules) -> Check:
    allowed = (int, float) if kind is float else kind

    def check(data: Any, keys: Keys) -> Sequence[Misfit]:
        fits = isinstance(data, allowed) and (kind not in (int, float) or not isinstance(data, bool))
        if fits and isinstance(data, int) and abs(data) >= rules.most:
            fits = False
        return () if fits else [Misfit(keys, f"{format_value(data)} is not {describe(kind)}")]

    return check
