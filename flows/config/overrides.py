"""Command-line overrides in Hydra's grammar: read all of them, say everything that is wrong, lay them over a tree."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override as HydraOverride
from hydra.core.override_parser.types import QuotedString
from hydra.errors import HydraException

from flows.config import schema
from flows.config.layers import Layer, Layers, dotted, nested
from flows.config.schema import Keys, shown
from lowering.errors import Problem, near_miss

LABEL = "command line"


@dataclass(frozen=True)
class Override:
    """`text` as typed: set `keys` to `value`, add it (a key that need not exist), delete it, or sweep it over a list of values."""

    text: str
    keys: Keys
    value: Any
    how: Literal["set", "add", "delete", "sweep"] = "set"
    label: str = LABEL

    @property
    def group(self) -> str:
        return str(self.keys[0])


def parse(texts: Sequence[str]) -> tuple[list[Override], list[Problem]]:
    """The overrides in order, and a problem for each that cannot be read or says again what another said."""
    found: list[Override] = []
    problems = []
    parser = OverridesParser.create()
    for text in texts:
        try:
            (hydra,) = parser.parse_overrides([text])
            override = _plain(hydra, text)
        except (HydraException, ValueError) as error:
            quoting = _quoting(text)
            cause = "has characters that mean something else in Hydra's grammar" if quoting else str(error).splitlines()[0]
            problems.append(Problem(f"{LABEL} {text}", cause, quoting or "an override is key=value, +key=value or ~key"))
            continue
        twin = next((other for other in found if other.keys == override.keys), None)
        if twin is not None:
            problems.append(Problem(f"{LABEL} {text}", f"'{twin.text}' already sets this key", "say it once"))
            continue
        found.append(override)
    return found, problems


def lay(tree: Layers, override: Override, keys: Keys, kind: Any, others: Sequence[str] = ()) -> tuple[Layers, list[Problem]]:
    """Lay the override's value over `tree` (of type `kind`) at `keys`; without a `+` every key must be there or be a field of a dataclass.

    others: first keys that are handled elsewhere, to be suggested for a misspelt one.
    """
    problem = None if override.how == "add" else _unknown(tree.data, override, keys, kind, others)
    if problem is not None:
        return tree, [problem]
    if override.how == "delete":
        return Layers(tree.layers, schema.without(tree.data, keys)), []
    inside = override.keys[:len(override.keys) - len(keys)]
    return tree.over(Layer(override.label, nested(keys, override.value), inside)), []


def as_option(override: Override) -> Override:
    """An override of an option that a stage or factory declares: it need not stand in the file, the declaration is checked later."""
    return replace(override, how="add") if override.how == "set" else override


def quoted(text: str) -> str:
    """`text` as a value of the grammar: bare where that reads the same, else in single quotes."""
    if re.fullmatch(r"[A-Za-z_/][A-Za-z0-9_./:-]*", text) and text.lower() not in ("null", "true", "false", "inf", "nan"):
        return text
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + found[2].replace("'", "\\'"), text)  # only before a quote is \ special
    return f"'{escaped}'"


def _quoting(text: str) -> str:
    """Return how to write an override whose value reads once it is quoted; empty when quoting does not help."""
    key, equals, value = text.partition("=")
    if not equals or value.startswith(("'", '"', "[", "{")) or value.endswith(")"):
        return ""
    better = f"{key}={quoted(value)}"
    try:
        OverridesParser.create().parse_overrides([better])
    except (HydraException, ValueError):
        return ""
    typed = shlex.quote(better) if re.search(r'["$`\\]', better) else f'"{better}"'
    return f"quote the value, for Hydra and the shell: {typed}"


def _plain(hydra: HydraOverride, text: str) -> Override:
    if hydra.package is not None:
        raise ValueError(f"'@{hydra.package}' is not used here; models and variants are named in the suite")
    keys: Keys = tuple(hydra.key_or_group.replace("/", ".").split("."))
    if not all(keys):
        raise ValueError("the key is not complete")
    if hydra.is_delete():
        return Override(text, keys, None, "delete")
    if hydra.is_sweep_override():
        if not hydra.is_discrete_sweep():
            raise ValueError("this sweep has no list of values; use choice(…) or range(…)")
        return Override(text, keys, [_value(value) for value in hydra.sweep_iterator()], "sweep")
    return Override(text, keys, _value(hydra.value()), "add" if hydra.is_add() or hydra.is_force_add() else "set")


def _value(value: Any) -> Any:
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, Mapping):
        return {key: _value(item) for key, item in value.items()}
    return [_value(item) for item in value] if isinstance(value, list) else value


def _unknown(data: Any, override: Override, keys: Keys, kind: Any, others: Sequence[str]) -> Problem | None:
    """The problem that `keys` is not in `data`, or None."""
    for depth, key in enumerate(keys):
        if not isinstance(data, Mapping):
            return Problem(f"{override.label} {override.text}".strip(), f"'{dotted(keys[:depth])}' is {shown(data)}, not a mapping")
        fields = schema.field_names(kind)
        if key not in data:
            may_be_left_out = key in fields and override.how != "delete"
            known = [*(() if depth else others), *data, *fields]
            return None if may_be_left_out else _missing(override, keys[:depth], str(key), known, bool(fields))
        data, kind = data[key], schema.inner(kind, str(key))
    return None


def _missing(override: Override, parent: Keys, key: str, known: Collection[str], closed: bool) -> Problem:
    cause = f"'{dotted(parent)}' has no key '{key}'" if parent else f"there is no key '{key}'"
    fixes = [near_miss(key, known) or (f"known: {', '.join(dict.fromkeys(known))}" if known else "")]
    if override.how == "set" and not closed:
        fixes.append(f"a new key is added with +{override.text}")
    return Problem(f"{override.label} {override.text}".strip(), cause, "; ".join(filter(None, fixes)))
