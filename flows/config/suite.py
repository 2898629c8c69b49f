"""The schema of a suite (models, variants and sweeps), and its expansion to points, each of which becomes a job."""

from __future__ import annotations

import fnmatch
import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from flows.config import slugs
from flows.config.layers import Layers
from flows.config.schema import at_least
from flows.config.slugs import ENVIRONMENT, NAME, spell
from lowering.errors import Problem, suggest
from lowering.fitting import Keys, advised

MAX_JOBS = 20_000
VARIANT = "variant"  # the key of the variant's name among the values of axes

Values = Mapping[str, tuple[Any, ...]]
SWEEP = "dotted keys with lists of values, for example {symbols.batch.max: [8, 64]}"


@dataclass(frozen=True)
class Entry:
    """One model of a suite. model: the name of its file, or a path relative to the suite's file (None: the entry's name).

    variants: override trees of the model by name, one job each.
    sweep: dotted keys of the model with lists of values, whose product is taken. zip: the same, but iterated in parallel, as one axis.
    include: further jobs, each by its values. exclude: values (or lists of them); a job that has all of them is left out.
    """

    model: str | None = None
    variants: Mapping[str, Mapping[str, Any] | None] = advised("for example {small: {symbols: {batch: {max: 8}}}}", default_factory=dict)
    sweep: Values = advised(SWEEP, default_factory=dict)
    zip: Values = field(default_factory=dict)
    include: tuple[Mapping[str, Any], ...] = ()
    exclude: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Suite:
    """A suite. models: names or globs of models, each with its Entry or null. sweep, zip, exclude: as of an Entry, for all models.

    max_jobs: a suite with more jobs is refused. strict_dims: the value for these jobs if strict_dims is null in pipeline.yaml.
    environments: packages in other versions, by name of the environment, each as a line of a requirements file; every job runs in each.
    """

    models: tuple[str, ...] | Mapping[str, Entry | None] = advised("for example [bert, vit], or {bert: null, mine: {model: mine.yaml}}")
    sweep: Values = advised(SWEEP, default_factory=dict)
    zip: Values = field(default_factory=dict)
    exclude: tuple[Mapping[str, Any], ...] = ()
    max_jobs: int = at_least(1, MAX_JOBS)
    strict_dims: bool = False
    environments: Mapping[str, tuple[str, ...]] = advised("for example {torch_2_12: [torch==2.12.1]}", default_factory=dict)


@dataclass(frozen=True)
class Axis:
    """A dotted key of the model and its values. place: where they were set, for messages."""

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
    def environment(self) -> str | None:
        """The name of the environment, if the suite has some."""
        return next((value for axis, value in self.values if axis.key == ENVIRONMENT), None)

    @property
    def axes(self) -> dict[str, Any]:
        """The variant and the swept values, by key."""
        return ({VARIANT: self.variant} if self.variant else {}) | {axis.key: value for axis, value in self.values}


@dataclass(frozen=True)
class Sweeps:
    """The sweeps of one model. zipped: groups of axes of equal length, iterated in parallel; included: points beyond the product."""

    axes: tuple[Axis, ...] = ()
    zipped: tuple[tuple[Axis, ...], ...] = ()
    included: tuple[Choice, ...] = ()

    def steps(self) -> list[list[Choice]]:
        """Return the choices of each axis or group of zipped axes, in an order independent of the order in the file."""
        groups = [*((axis,) for axis in self.axes), *self.zipped]
        groups.sort(key=lambda group: min(slugs.make_sort_key(axis.keys) for axis in group))
        return [[tuple(zip(group, values, strict=True)) for values in zip(*(axis.values for axis in group), strict=True)]
                for group in groups]

    def count(self, variants: Mapping[str, Any]) -> int:
        return max(1, len(variants)) * (math.prod(map(len, self.steps())) + len(self.included))

    def points(self, variants: Mapping[str, Mapping[str, Any] | None], whole: bool = True) -> Iterator[Point]:
        """Yield every variant with every combination of the axes' values, then the included points. Without any, yield the point `default`.

        whole: if false, yield each value once, with the first values of the other axes: enough to check every value.
        """
        steps = self.steps()
        named: list[tuple[str | None, Mapping[str, Any] | None]] = [*variants.items()] or [(None, None)]
        keys = {axis.keys for axis in (*self.axes, *itertools.chain(*self.zipped))}
        swept = [pair for step in steps for choice in step for pair in choice]
        words = {(axis.key, spell(value)): _make_word(axis, value, keys) for axis, value in swept}
        for name, tree in named:
            for chosen in itertools.product(*steps) if whole else _iterate_star(steps):
                yield _make_point(name, tree, tuple(itertools.chain(*chosen)), words)
            for choice in self.included:
                own = keys | {axis.keys for axis, _ in choice}
                spoken = {(axis.key, spell(value)): _make_word(axis, value, own) for axis, value in choice}
                yield _make_point(name, tree, choice, {**spoken, **words})


def _make_word(axis: Axis, value: Any, others: Collection[Keys]) -> str:
    return str(value) if axis.key == ENVIRONMENT else slugs.make_word(axis.keys, value, others)


def _make_point(variant: str | None, tree: Mapping[str, Any] | None, values: Choice, words: Mapping[tuple[str, str], str]) -> Point:
    ordered = tuple(sorted(values, key=lambda pair: slugs.make_sort_key(pair[0].keys)))
    spoken = [words[axis.key, spell(value)] for axis, value in ordered]
    return Point(slugs.make_slug(([variant] if variant else []) + spoken), variant, tree or {}, ordered)


def _iterate_star(steps: Sequence[Sequence[Choice]]) -> Iterator[tuple[Choice, ...]]:
    first = [step[0] for step in steps]
    yield tuple(first)
    for number, step in enumerate(steps):
        for choice in step[1:]:
            yield (*first[:number], choice, *first[number + 1 :])


def list_entries(suite: Layers, available: Sequence[str]) -> tuple[dict[str, tuple[Keys, Mapping[str, Any]]], list[Problem]]:
    """Return the models of a well-formed suite as name -> (keys of its entry, the entry), and all problems.

    Globs are matched with `available`.
    """
    declared = suite.data["models"]
    listed: list[tuple[str, Keys, Mapping[str, Any]]]
    if isinstance(declared, Mapping):
        listed = [(name, ("models", name), entry or {}) for name, entry in declared.items()]
    else:
        listed = [(name, ("models", index), {}) for index, name in enumerate(declared)]
    found: dict[str, tuple[Keys, Mapping[str, Any]]] = {}
    problems = [Problem(suite.place(("models",)), "is empty: the suite has no models", "list at least one")] if not listed else []
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
                problems.append(slugs.make_name_problem(match, suite.place(keys)))
            else:
                found[match] = keys, entry
    return found, problems


def axes(sweep: Mapping[str, Sequence[Any]], places: Mapping[str, str]) -> tuple[list[Axis], list[Problem]]:
    """Return the axes of a sweep, and a problem for each without values or with a duplicate. places: where each key was set."""
    found, problems = [], []
    for key, values in sweep.items():
        texts = [spell(value) for value in values]
        if key == ENVIRONMENT:
            problems.append(make_environment_problem(places[key]))
        elif not values:
            problems.append(Problem(places[key], "has no values", "list at least one"))
        elif len(set(texts)) < len(texts):
            twice = next(text for text in texts if texts.count(text) > 1)
            problems.append(Problem(places[key], f"lists {twice} twice", "list it once"))
        else:
            found.append(Axis(key, values, places[key]))
    return found, problems


def zip_axes(group: Mapping[str, Sequence[Any]], places: Mapping[str, str]) -> tuple[tuple[Axis, ...], list[Problem]]:
    """Return the axes of a zip, which may repeat values; no axes, and a problem, if their lengths differ or are 0."""
    if ENVIRONMENT in group:
        return (), [make_environment_problem(places[ENVIRONMENT])]
    lengths = {key: len(values) for key, values in group.items()}
    if len(set(lengths.values())) > 1:
        said = ", ".join(f"{key} {length}" for key, length in lengths.items())
        return (), [Problem(next(iter(places.values())), f"zips lists of different lengths: {said}", "give each the same number of values")]
    empty = [Problem(places[key], "has no values", "list at least one") for key, length in lengths.items() if not length]
    return () if empty else tuple(Axis(key, values, places[key]) for key, values in group.items()), empty


def make_environment_problem(place: str) -> Problem:
    """Return the problem that the axis of the environments is swept as if it were a key of a model."""
    return Problem(place, "is no key of a model", "declare the environments: environments: {torch_2_12: [torch==2.12.1]}")


class Exclusion:
    """One item of `exclude`, which leaves out the points that have all of its values. place: where it was set, for messages."""

    def __init__(self, values: Mapping[str, Any], place: str):
        self.values, self.place, self.known, self.hits = values, place, set[str](), 0

    def takes(self, point: Point) -> bool:
        self.known |= point.axes.keys()
        taken = bool(self.values) and all(key in point.axes and _matches(point.axes[key], wanted) for key, wanted in self.values.items())
        self.hits += taken
        return taken

    def problems(self) -> list[Problem]:
        """Return the problems of an item that left out no point, after all points were tested."""
        if self.hits:
            return []
        unknown = [key for key in self.values if key not in self.known]
        if unknown:
            swept = f"swept: {', '.join(sorted(self.known)) or 'nothing'}"
            return [Problem(self.place, f"'{key}' is not a swept key", suggest(key, self.known) or swept) for key in unknown]
        return [Problem(self.place, "leaves out no job: no job has all of its values", "correct the values, or remove the item")]


def _matches(value: Any, wanted: Any) -> bool:
    return spell(value) == spell(wanted) or (isinstance(wanted, list | tuple) and spell(value) in map(spell, wanted))


def _is_glob(name: str) -> bool:
    return any(letter in name for letter in "*?[")
