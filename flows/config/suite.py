"""A suite: which models, in which variants, swept over which values; expanded to the points that become jobs."""

from __future__ import annotations

import fnmatch
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flows.config import slugs
from flows.config.layers import Layers
from flows.config.schema import Keys, at_least
from flows.config.slugs import NAME, spelled
from lowering.errors import Problem, near_miss

MAX_JOBS = 20_000
VARIANT = "variant"  # stands for the variant's name where values of axes are named

Values = Mapping[str, tuple[Any, ...]]


@dataclass(frozen=True)
class Entry:
    """One model of a suite: `model` names its file where it is not the entry's own name (or a path beside the suite's file).

    variants: override trees of the model by name, one job each.
    sweep: dotted keys of the model with lists of values; their product. zip: the same, but walked side by side, as one axis.
    include: further jobs, each by its values. exclude: values (or lists of them); a job that has them all is left out.
    """

    model: str | None = None
    variants: Mapping[str, Mapping[str, Any] | None] = field(default_factory=dict)
    sweep: Values = field(default_factory=dict)
    zip: Values = field(default_factory=dict)
    include: tuple[Mapping[str, Any], ...] = ()
    exclude: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Suite:
    """`models`: names or globs of models, each with its Entry or null; sweep, zip and exclude apply to all of them.

    max_jobs: more than that are refused. strict_dims: what pipeline.yaml's key of that name is for these jobs, where it is null.
    """

    models: tuple[str, ...] | Mapping[str, Entry | None]
    sweep: Values = field(default_factory=dict)
    zip: Values = field(default_factory=dict)
    exclude: tuple[Mapping[str, Any], ...] = ()
    max_jobs: int = at_least(1, MAX_JOBS)
    strict_dims: bool = False


@dataclass(frozen=True)
class Axis:
    """A dotted key of the model and the values it takes; `place` is where that was said."""

    key: str
    values: Sequence[Any]
    place: str

    @property
    def keys(self) -> Keys:
        return tuple(self.key.split("."))


Choice = tuple[tuple[Axis, Any], ...]


@dataclass(frozen=True)
class Point:
    """One job of a model: its variant's name, the variant's own override tree, and a value for each axis."""

    slug: str
    variant: str | None
    tree: Mapping[str, Any]
    values: Choice

    @property
    def axes(self) -> dict[str, Any]:
        """What distinguishes it: the variant and the swept values, by key."""
        return ({VARIANT: self.variant} if self.variant else {}) | {axis.key: value for axis, value in self.values}


@dataclass(frozen=True)
class Sweeps:
    """What one model is swept over. zipped: groups of axes of one length, walked side by side; included: points beside the product."""

    axes: tuple[Axis, ...] = ()
    zipped: tuple[tuple[Axis, ...], ...] = ()
    included: tuple[Choice, ...] = ()

    def steps(self) -> list[list[Choice]]:
        """The choices of each axis, or of each group of zipped ones; in an order that does not depend on how they were written."""
        groups = [*((axis,) for axis in self.axes), *self.zipped]
        groups.sort(key=lambda group: min(slugs.rank(axis.keys) for axis in group))
        return [[tuple(zip(group, values, strict=True)) for values in zip(*(axis.values for axis in group), strict=True)]
                for group in groups]

    def count(self, variants: Mapping[str, Any]) -> int:
        return max(1, len(variants)) * (math.prod(map(len, self.steps())) + len(self.included))

    def points(self, variants: Mapping[str, Mapping[str, Any] | None], whole: bool = True) -> Iterator[Point]:
        """Every variant with every combination of the axes' values, and the included ones. Without any: one point, `default`.

        whole: false gives each value once, beside the first ones of the other axes: enough to see what is wrong with them.
        """
        steps = self.steps()
        named: list[tuple[str | None, Mapping[str, Any] | None]] = [*variants.items()] or [(None, None)]
        keys = {axis.keys for axis in (*self.axes, *itertools.chain(*self.zipped))}
        swept = [pair for step in steps for choice in step for pair in choice]
        words = {(axis.key, spelled(value)): slugs.word(axis.keys, value, keys) for axis, value in swept}
        for name, tree in named:
            for chosen in itertools.product(*steps) if whole else _star(steps):
                yield _point(name, tree, tuple(itertools.chain(*chosen)), words)
            for choice in self.included:
                own = keys | {axis.keys for axis, _ in choice}
                spoken = {(axis.key, spelled(value)): slugs.word(axis.keys, value, own) for axis, value in choice}
                yield _point(name, tree, choice, {**spoken, **words})


def _point(variant: str | None, tree: Mapping[str, Any] | None, values: Choice, words: Mapping[tuple[str, str], str]) -> Point:
    ordered = tuple(sorted(values, key=lambda pair: slugs.rank(pair[0].keys)))
    spoken = [words[axis.key, spelled(value)] for axis, value in ordered]
    return Point(slugs.slug(([variant] if variant else []) + spoken), variant, tree or {}, ordered)


def _star(steps: Sequence[Sequence[Choice]]) -> Iterator[tuple[Choice, ...]]:
    first = [step[0] for step in steps]
    yield tuple(first)
    for number, step in enumerate(steps):
        for choice in step[1:]:
            yield (*first[:number], choice, *first[number + 1 :])


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
                problems.append(slugs.refusal(match, suite.place(keys)))
            else:
                found[match] = keys, entry
    return found, problems


def axes(sweep: Mapping[str, Sequence[Any]], places: Mapping[str, str]) -> tuple[list[Axis], list[Problem]]:
    """The axes of a sweep; a problem for each that has no value or the same value twice. places: where each key was said."""
    found, problems = [], []
    for key, values in sweep.items():
        texts = [spelled(value) for value in values]
        if not values:
            problems.append(Problem(places[key], "has no values", "a list of at least one"))
        elif len(set(texts)) < len(texts):
            twice = next(text for text in texts if texts.count(text) > 1)
            problems.append(Problem(places[key], f"lists {twice} twice", "once"))
        else:
            found.append(Axis(key, values, places[key]))
    return found, problems


def zipped(group: Mapping[str, Sequence[Any]], places: Mapping[str, str]) -> tuple[tuple[Axis, ...], list[Problem]]:
    """The axes of a zip, which may repeat values; a problem, and none of them, where their lengths differ or are 0."""
    lengths = {key: len(values) for key, values in group.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{key} {length}" for key, length in lengths.items())
        return (), [Problem(next(iter(places.values())), f"zips lists of different lengths: {said}", "one value of each a job")]
    empty = [Problem(places[key], "has no values", "a list of at least one") for key, length in lengths.items() if not length]
    return () if empty else tuple(Axis(key, values, places[key]) for key, values in group.items()), empty


class Exclusion:
    """One item of `exclude`: leaves out the points that have all its values; `place` is where it was said."""

    def __init__(self, values: Mapping[str, Any], place: str):
        self.values, self.place, self.known, self.hits = values, place, set[str](), 0

    def takes(self, point: Point) -> bool:
        self.known |= point.axes.keys()
        taken = bool(self.values) and all(key in point.axes and _matches(point.axes[key], wanted) for key, wanted in self.values.items())
        self.hits += taken
        return taken

    def problems(self) -> list[Problem]:
        """Why it left out nothing, once all points were asked."""
        if self.hits:
            return []
        unknown = [key for key in self.values if key not in self.known]
        if unknown:
            swept = f"swept: {', '.join(sorted(self.known)) or 'nothing'}"
            return [Problem(self.place, f"'{key}' is no key that is swept", near_miss(key, self.known) or swept) for key in unknown]
        return [Problem(self.place, "leaves out no job", "its values occur together in none")]


def _matches(value: Any, wanted: Any) -> bool:
    return spelled(value) == spelled(wanted) or (isinstance(wanted, list | tuple) and spelled(value) in map(spelled, wanted))


def _is_glob(name: str) -> bool:
    return any(letter in name for letter in "*?[")
