"""Command-line overrides in Hydra's grammar: parse them, report all errors, and apply them to a tree."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override as HydraOverride
from hydra.core.override_parser.types import QuotedString
from hydra.errors import HydraException

from flows.config import schema
from flows.config.layers import Layer, Layers, nest
from lowering.errors import Problem, suggest
from lowering.fitting import Keys, format_value, join_keys

LABEL = "command line"


@dataclass(frozen=True)
class Override:
    """An override, with its `text` as typed. how: set `keys` to `value`, add it (the key may be new), delete it, or sweep its values."""

    text: str
    keys: Keys
    value: Any
    how: Literal["set", "add", "delete", "sweep"] = "set"
    label: str = LABEL

    @property
    def group(self) -> str:
        return str(self.keys[0])

    @property
    def place(self) -> str:
        """The place of the override in messages."""
        return f"{self.label} {self.text}".strip()

    def name_parent(self, count: int) -> str:
        """Return the keys as typed, without the last `count`."""
        return ".".join(map(str, self.keys[:len(self.keys) - count]))


def parse(texts: Sequence[str]) -> tuple[list[Override], list[Problem]]:
    """Parse overrides; return them in order, and a problem for each that is malformed or repeats a key."""
    found: list[Override] = []
    problems = []
    parser = OverridesParser.create()
    for text in texts:
        try:
            (hydra,) = parser.parse_overrides([text])
            override = _convert_override(hydra, text)
        except (HydraException, ValueError) as error:
            quoting = _suggest_quoting(text)
            cause = "has characters with a special meaning in Hydra's grammar" if quoting else _explain_error(error)
            problems.append(Problem(f"{LABEL} {text}", cause, quoting or _suggest_key(text)))
            continue
        twin = next((other for other in found if other.keys == override.keys), None)
        if twin is not None:
            problems.append(Problem(f"{LABEL} {text}", f"'{twin.text}' already sets this key", "set it once"))
            continue
        found.append(override)
    return found, problems


def apply_override(tree: Layers, override: Override, keys: Keys, kind: Any, others: Sequence[str] = ()) -> tuple[Layers, list[Problem]]:
    """Apply an override to `tree` (of type `kind`) at `keys`. Without a `+`, every key must exist or be a field of a dataclass.

    A number among `keys` is the index of an item where the tree has a list.
    others: first keys that are handled elsewhere, suggested for a misspelt one.
    """
    keys = _convert_indices(tree.data, keys)
    problem = _find_missing_item(tree.data, override, keys)
    if problem is None and override.how != "add":
        problem = _find_unknown(tree.data, override, keys, kind, others)
    if problem is not None:
        return tree, [problem]
    if override.how == "delete":
        return Layers(tree.layers, schema.remove_keys(tree.data, keys)), []
    inside = override.keys[:len(override.keys) - len(keys)]
    return tree.over(Layer(override.label, nest(keys, override.value), inside)), []


def to_option(override: Override) -> Override:
    """Return an override of an option of a stage or factory. Its key may be absent from the file: the declaration is checked later."""
    return replace(override, how="add") if override.how == "set" else override


def quote(text: str) -> str:
    """Return `text` as a value of the grammar: bare if that parses to the same text, else in single quotes."""
    if re.fullmatch(r"[A-Za-z_/][A-Za-z0-9_./:-]*", text) and text.lower() not in ("null", "true", "false", "inf", "nan"):
        return text
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + found[2].replace("'", "\\'"), text)  # \ is special only before a quote
    return f"'{escaped}'"


def _explain_error(error: Exception) -> str:
    """Return the first line of an error of the parser, without the words of its generator."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    generated = re.search(r"ViableAlt|mismatched input|extraneous input|no viable|token recognition|missing [A-Z'{<]", text)
    return "is not in Hydra's grammar" if generated else text


def _suggest_key(text: str) -> str:
    """Return the fix of an override that the grammar does not take; of a name alone, the keys whose value it may be."""
    key, equals, value = text.partition("=")
    if re.search(r"\w\[\d+\]", key):
        better = re.sub(r"\[(\d+)\]", r".\1", key)
        return f"an index is a key: {better}{equals}{value}"
    if re.fullmatch(r"[\w/-]+|[\w./-]+\.ya?ml", text):
        return f"for a model write model={text}, for a suite suite={text}"
    return "write an override as key=value, +key=value or ~key"


def _suggest_quoting(text: str) -> str:
    """Return a fix for an override that parses once its value is quoted; empty if quoting does not help."""
    key, equals, value = text.partition("=")
    if not equals or value.startswith(("'", '"', "[", "{")) or value.endswith(")"):
        return ""
    better = f"{key}={quote(value)}"
    try:
        OverridesParser.create().parse_overrides([better])
    except (HydraException, ValueError):
        return ""
    typed = shlex.quote(better) if re.search(r'["$`\\]', better) else f'"{better}"'
    return f"quote the value, for Hydra and the shell: {typed}"


def _convert_override(hydra: HydraOverride, text: str) -> Override:
    if hydra.package is not None:
        raise ValueError(f"'@{hydra.package}' is not supported; models and variants are named in the suite")
    keys: Keys = tuple(hydra.key_or_group.replace("/", ".").split("."))
    if not all(keys):
        raise ValueError("the key is incomplete")
    if hydra.is_delete():
        return Override(text, keys, None, "delete")
    if hydra.is_sweep_override():
        if not hydra.is_discrete_sweep():
            raise ValueError("this sweep has no list of values; use choice(…) or range(…)")
        return Override(text, keys, [_convert_value(value) for value in hydra.sweep_iterator()], "sweep")
    return Override(text, keys, _convert_value(hydra.value()), "add" if hydra.is_add() or hydra.is_force_add() else "set")


def _convert_value(value: Any) -> Any:
    if isinstance(value, QuotedString):
        return value.text
    if isinstance(value, Mapping):
        return {key: _convert_value(item) for key, item in value.items()}
    return [_convert_value(item) for item in value] if isinstance(value, list) else value


def _convert_indices(data: Any, keys: Keys) -> Keys:
    """Return `keys` with ints for the indices of items, where `data` has lists."""
    found: list[str | int] = []
    for key in keys:
        key = int(key) if isinstance(data, list) and str(key).isdecimal() else key
        found.append(key)
        if isinstance(data, list):
            data = data[key] if isinstance(key, int) and key < len(data) else None
        else:
            data = data.get(key) if isinstance(data, Mapping) else None
    return tuple(found)


def _find_missing_item(data: Any, override: Override, keys: Keys) -> Problem | None:
    """Return the problem that a list in `data` lacks the item of `keys`, or that the override deletes an item."""
    for depth, key in enumerate(keys):
        if isinstance(data, list):
            parent = join_keys(keys[:depth])
            if not isinstance(key, int) or key >= len(data):
                return Problem(override.place, f"'{parent}' is a list of {len(data)} items and has no '{key}'",
                               f"write an index from 0 to {len(data) - 1}" if data else "write the whole list")
            if override.how == "delete" and depth == len(keys) - 1:
                fix = f"write the others: {override.name_parent(1)}=[…]"
                return Problem(override.place, f"an item of the list '{parent}' cannot be removed", fix)
        elif not isinstance(data, Mapping) or key not in data:
            return None
        data = data[key]
    return None


def _find_unknown(data: Any, override: Override, keys: Keys, kind: Any, others: Sequence[str]) -> Problem | None:
    """Return the problem that `data` lacks `keys`, or None if it has them."""
    root = data
    for depth, key in enumerate(keys):
        if isinstance(data, list):
            data, kind = data[int(key)], schema.get_inner_type(kind, str(key))
            continue
        if not isinstance(data, Mapping):
            fix = f"set all of it: {override.name_parent(len(keys) - depth)}=…"
            return Problem(override.place, f"'{join_keys(keys[:depth])}' is {format_value(data)}, not a mapping", fix)
        kind = schema.narrow(kind, data)
        fields = schema.get_field_names(kind)
        if key not in data:
            may_be_left_out = key in fields and override.how != "delete"
            known = [*(() if depth else others), *data, *fields]
            if may_be_left_out:
                return None
            elsewhere = [path for path in _list_paths(root) if path[-1] == key]
            if str(key).isdecimal() and "repeat" in data:
                cause = f"'{join_keys(keys[:depth])}' is repeated, and its items are alike"
                return Problem(override.place, cause, f"leave out the index {key}, or write a list in the file")
            return _make_missing_problem(override, keys[:depth], str(key), known, bool(fields), elsewhere)
        data, kind = data[key], schema.get_inner_type(kind, str(key))
    return None


def _list_paths(data: Any, parent: Keys = ()) -> Iterator[Keys]:
    """Iterate over the paths of all keys of nested mappings."""
    if isinstance(data, Mapping):
        for key, value in data.items():
            yield (*parent, key)
            yield from _list_paths(value, (*parent, key))


def _make_missing_problem(
    override: Override, parent: Keys, key: str, known: Collection[str], closed: bool, elsewhere: Sequence[Keys]
) -> Problem:
    """Return the problem of a missing key. elsewhere: where the configuration has a key of this name."""
    cause = f"'{join_keys(parent)}' has no key '{key}'" if parent else f"there is no key '{key}'"
    if len(elsewhere) == 1:
        fixes = [f"did you mean '{join_keys(elsewhere[0])}'?"]
    else:
        fixes = [suggest(key, known) or (f"known: {', '.join(dict.fromkeys(known))}" if known else "")]
    if override.how == "set" and not closed:
        fixes.append(f"add a new key with +{override.text}")
    return Problem(override.place, cause, "; ".join(filter(None, fixes)))
