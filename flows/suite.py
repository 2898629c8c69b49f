"""A suite: which models, in which variants, swept over which values; expanded to the points that become jobs."""

from __future__ import annotations

import fnmatch
import itertools
import json
import math
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flows.layers import Layers
from flows.schema import Keys
from lowering.errors import Problem

MAX_JOBS = 20_000
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=-]{0,119}")
SYMBOL_PARTS = {"max": "", "min": "min", "multiple_of": "mult", "example": "at"}


@dataclass(frozen=True)
class Entry:
    """One model of a suite: `model` names its file where it is not the entry's own name (or a path beside the suite's file).

    variants: override trees of the model by name, one job each. sweep: dotted keys of the model with lists of values; their product.
    """

    model: str | None = None
    variants: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    sweep: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Suite:
    """`models`: names or globs of models, each with its Entry or null; `sweep` applies to all of them."""

    models: tuple[str, ...] | Mapping[str, Entry | None]
    sweep: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Axis:
    """A dotted key of the model and the values it takes; `place` is where that was said."""

    key: str
    values: Sequence[Any]
    place: str

    @property
    def keys(self) -> Keys:
        return tuple(self.key.split("."))


@dataclass(frozen=True)
class Point:
    """One job of a model: its variant's name, the variant's own override tree, and a value for each axis."""

    slug: str
    variant: str | None
    tree: Mapping[str, Any]
    values: tuple[tuple[Axis, Any], ...]


def entries(suite: Layers, available: Sequence[str]) -> tuple[dict[str, tuple[Keys, Mapping[str, Any]]], list[Problem]]:
    """The models of a (well-formed) suite: name -> (where its entry stands, the entry); globs are matched with `available`."""
    declared = suite.data["models"]
    listed: list[tuple[str, Keys, Mapping[str, Any]]]
    if isinstance(declared, Mapping):
        listed = [(name, ("models", name), entry or {}) for name, entry in declared.items()]
    else:
        listed = [(name, ("models", index), {}) for index, name in enumerate(declared)]
    found: dict[str, tuple[Keys, Mapping[str, Any]]] = {}
    problems = [Problem(suite.place(("models",)), "names no model", "list at least one")] if not listed else []
    plain = {name for name, _, _ in listed if not _is_glob(name)}
    for name, keys, entry in listed:
        matches = [name]
        if _is_glob(name):
            matches = [other for other in fnmatch.filter(available, name) if other not in plain]
            if not fnmatch.filter(available, name):
                problems.append(Problem(suite.place(keys), f"no model matches '{name}'", f"models: {', '.join(available)}"))
        for match in matches:
            if match in found:
                first = suite.place(found[match][0])
                problems.append(Problem(suite.place(keys), f"'{match}' is already named by {first}", "name a model once"))
            elif not NAME.fullmatch(match) or "--" in match:
                problems.append(Problem(suite.place(keys), f"'{match}' cannot be a folder's name", "letters, digits, . _ + = and single -"))
            else:
                found[match] = keys, entry
    return found, problems


def axes(sweep: Mapping[str, Sequence[Any]], places: Mapping[str, str]) -> tuple[list[Axis], list[Problem]]:
    """The axes of a sweep; a problem for each that has no value or the same value twice. places: where each key was said."""
    found, problems = [], []
    for key, values in sweep.items():
        texts = [json.dumps(value, sort_keys=True, default=str) for value in values]
        if not values:
            problems.append(Problem(places[key], "has no values", "a list of at least one"))
        elif len(set(texts)) < len(texts):
            twice = next(text for text in texts if texts.count(text) > 1)
            problems.append(Problem(places[key], f"lists {twice} twice", "once"))
        else:
            found.append(Axis(key, values, places[key]))
    return found, problems


def count(variants: Mapping[str, Any], swept: Sequence[Axis]) -> int:
    return max(1, len(variants)) * math.prod(len(axis.values) for axis in swept)


def points(variants: Mapping[str, Mapping[str, Any] | None], swept: Sequence[Axis]) -> Iterator[Point]:
    """Every variant with every combination of the axes' values, in the order written. Without either: one point, `default`."""
    words = [_words(axis, swept) for axis in swept]
    named: list[tuple[str | None, Mapping[str, Any] | None]] = [*variants.items()] or [(None, None)]
    for name, tree in named:
        for choice in itertools.product(*(range(len(axis.values)) for axis in swept)):
            parts = ([name] if name else []) + [spelled[index] for spelled, index in zip(words, choice, strict=True)]
            values = tuple((axis, axis.values[index]) for axis, index in zip(swept, choice, strict=True))
            yield Point("-".join(parts) or "default", name, tree or {}, values)


def slug_problems(slug: str, taken: Collection[str], place: str) -> list[Problem]:
    """Why a variant cannot be called `slug`: it is no folder's name, or `taken` has it."""
    if slug in taken:
        return [Problem(place, f"two variants would be called '{slug}'", "rename a variant, or sweep other values")]
    if NAME.fullmatch(slug):
        return []
    return [Problem(place, f"'{slug}' cannot be a folder's name", "at most 120 letters, digits, . _ + = and -, no sign first")]


def _words(axis: Axis, swept: Sequence[Axis]) -> list[str]:
    """How each value of an axis reads in a slug: `seq128`, `core`, `deployable`, `no-deployable`; numbered where two would be one."""
    label = _label(axis.keys)
    if [_label(other.keys) for other in swept].count(label) > 1:
        label = "_".join(str(key) for key in axis.keys[-3:])
    texts = []
    for value in axis.values:
        if isinstance(value, bool):
            text = label if value else f"no-{label}"
        elif isinstance(value, int | float):
            text = f"{label}{value}"
        elif isinstance(value, str) and re.fullmatch(r"[A-Za-z][A-Za-z0-9_.]*", value):
            text = value
        else:
            text = f"{label}-none" if value is None else ""
        texts.append(text if NAME.fullmatch(text) else "")
    return [text if text and texts.count(text) == 1 else f"{label}.{index}" for index, text in enumerate(texts)]


def _label(keys: Keys) -> str:
    if len(keys) == 3 and keys[0] == "symbols":
        return f"{keys[1]}{SYMBOL_PARTS.get(str(keys[2]), keys[2])}"
    return str(keys[-1])


def _is_glob(name: str) -> bool:
    return any(letter in name for letter in "*?[")
