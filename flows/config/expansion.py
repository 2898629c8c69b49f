"""Expansion of a suite into jobs: for each model and point a checked tree (file, variant, sweep, command line), as by `Job.to_json`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flows.config import checks, compose, environment_axis, overrides, request, slugs, sources
from flows.config import entries as model_entries
from flows.config import suite as suites
from flows.config.derived import Derived, drop_unused, implies_entries
from flows.config.document import ModelConfig
from flows.config.layers import Layer, Layers, merge
from flows.config.overrides import LABEL, Override
from flows.config.request import Request
from flows.config.schema import get_field_names, remove_keys, split_keys
from flows.config.slugs import ENVIRONMENT
from flows.config.suite import MAX_JOBS, Axis, Exclusion, Point, Sweeps
from lowering.errors import ConfigError, Problem, suggest
from lowering.fitting import Keys, find_misfits
from lowering.model_checks import find_problems
from lowering.plain import to_plain


def job_id(job: Mapping[str, Any]) -> str:
    """Return the id of a job given as plain data, equal to `Job.id`."""
    return f"{job['model']['name']}--{job['variant']}"


def compute_digest(job: Mapping[str, Any]) -> str:
    """Return a digest of a job's plain data that does not depend on the variant's name or on the way the job was requested."""
    fields = {key: value for key, value in job.items() if key != "variant"}
    return hashlib.sha256(json.dumps(fields, sort_keys=True, default=str).encode("utf-8", "backslashreplace")).hexdigest()


def join_model_name(override: Override, models: Collection[str]) -> Override:
    """Return an override of `model.NAME.KEY` with NAME joined into one key. Names may have dots: the longest match in `models` is taken."""
    if override.group != "model":
        return override
    rest = override.keys[1:]
    sizes = [size for size in range(len(rest) - 1, 1, -1) if ".".join(map(str, rest[:size])) in models]
    return replace(override, keys=("model", ".".join(map(str, rest[: sizes[0]])), *rest[sizes[0] :])) if sizes else override


@dataclass
class Expansion:
    """The jobs of a suite. axes: by job id, the variant and the swept values, by key."""

    jobs: list[dict[str, Any]] = field(default_factory=list)
    axes: dict[str, dict[str, Any]] = field(default_factory=dict)


def expand(suite: Layers, asked: Request, root: Layers, document: Mapping[str, Any],
           derived: Derived | None = None) -> tuple[Expansion, list[Problem]]:
    """Expand a well-formed suite into jobs; also return all problems of its models, variants, sweeps and model overrides."""
    with derived or Derived() as known:
        expanding = _Expanding(suite, asked, root, document, known)
        expanding.run()
    return expanding.found, expanding.problems


@dataclass
class _Expanding:
    suite: Layers
    asked: Request
    root: Layers
    document: Mapping[str, Any]
    derived: Derived
    found: Expansion = field(default_factory=Expansion)
    problems: list[Problem] = field(default_factory=list)
    option_files: dict[str, Layer | None] = field(default_factory=dict)

    def run(self) -> None:
        available = self.asked.folders.names("model")
        entries, self.problems = suites.list_entries(self.suite, available)
        given = self._assign_overrides(entries)
        bases = self._read_bases(entries, available)
        sweeps = {name: self._list_sweeps(*entry, given[name]) for name, entry in entries.items()}
        total = sum(sweeps[name].count(entry.get("variants", {})) for name, (_, entry) in entries.items())
        limit = self.suite.data.get("max_jobs", MAX_JOBS)
        if total > limit:
            fix = f"at most {limit} are allowed: drop values, or raise max_jobs"
            self.problems.append(Problem(self.suite.place(("models",)), f"expands to {total} jobs", fix))
        self.problems += environment_axis.find_problems(self.suite)
        shared = self._list_exclusions((), self.suite.data)
        for name, (keys, entry) in entries.items():
            if name in bases:
                own = self._list_exclusions(keys, entry)
                points = sweeps[name].points(entry.get("variants", {}), whole=total <= limit)
                # sum, not any: every exclusion must see every point
                kept = [point for point in points if not sum(exclusion.takes(point) for exclusion in (*shared, *own))]
                self._expand_model(name, keys, bases[name], kept, [override for override in given[name] if override.how != "sweep"])
                self.problems += [problem for exclusion in own for problem in exclusion.problems()] if total <= limit else []
        if bases and total <= limit:
            self.problems += [problem for exclusion in shared for problem in exclusion.problems()]

    def _assign_overrides(self, entries: Mapping[str, Any]) -> dict[str, list[Override]]:
        """Return the command line's overrides by model. `model.KEY` without a name and swept `stages.KEY` apply to all models."""
        given: dict[str, list[Override]] = {name: [] for name in entries}
        fields = get_field_names(ModelConfig)
        for override in (join_model_name(override, entries) for override in self.asked.values):
            keys = override.keys
            if override.group == "stages" and override.how == "sweep":
                keys = ("model", *keys)
            if keys[0] != "model":
                continue
            if keys[1] in entries and len(keys) > 2:
                given[str(keys[1])].append(override)
            elif keys[1] in fields:
                for overridden in given.values():
                    overridden.append(override)
            elif keys[1] in entries:
                fix = f"exclude it with -k 'not {keys[1]}'" if override.how == "delete" else f"write model.{keys[1]}.KEY=VALUE"
                self.problems.append(Problem(f"{LABEL} {override.text}", "does not name a key of the model", fix))
            else:
                known = [*entries, *fields]
                self.problems.append(Problem(f"{LABEL} {override.text}", f"the suite has no model '{keys[1]}'",
                                             suggest(str(keys[1]), known) or f"models: {', '.join(entries)}"))
        return given

    def _read_bases(self, entries: Mapping[str, tuple[Keys, Mapping[str, Any]]], available: Sequence[str]) -> dict[str, Layers]:
        """Return the content of each model's file. A missing or unreadable file adds a problem and has no entry."""
        files: dict[str, Path] = {}
        for name, (keys, entry) in entries.items():
            wanted = entry.get("model") or name
            file = request.find_file("model", wanted, self.asked.folders, self._find_base_folder())
            if file is None:
                place, beside = self.suite.place(keys), self._find_base_folder()
                self.problems.append(request.make_missing_problem("model", wanted, place, self.asked.folders, beside))
            else:
                files[name] = file
        trees, problems = compose.read_trees("model", set(files.values()), self.asked.folders)
        self.problems += problems
        return {name: Layers.from_layer(Layer(compose.label_file(file), trees[file] or {}, file=file)) for name, file in files.items()
                if file in trees}

    def _find_base_folder(self) -> Path:
        """Return the base of relative paths in the suite: its file's folder, or the working directory if it has no file."""
        file = self.suite.layers[0].file
        return file.parent if file else Path.cwd()

    def _list_sweeps(self, keys: Keys, entry: Mapping[str, Any], given: Sequence[Override]) -> Sweeps:
        """Return the sweeps of a model: by the suite, its entry, the command line. Later ones replace earlier ones with the same key."""
        found: dict[str, Axis] = {}
        groups: list[tuple[Axis, ...]] = []
        for at, said in (((), self.suite.data), (keys, entry)):
            self._add_axes(found, said.get("sweep", {}), {key: self.suite.place((*at, "sweep", key)) for key in said.get("sweep", {})})
            zipped = said.get("zip", {})
            group, problems = suites.zip_axes(zipped, {key: self.suite.place((*at, "zip", key)) for key in zipped})
            self.problems += problems
            if group:
                groups = [other for other in groups if not {axis.key for axis in other} & {axis.key for axis in group}] + [group]
        for override in given:
            if override.how == "sweep":
                path = override.keys[1:] if override.group == "model" else override.keys
                path = path if path[0] in get_field_names(ModelConfig) else path[1:]
                key = ".".join(map(str, path))
                self._add_axes(found, {key: override.value}, {key: f"{LABEL} {override.text}"})
        within = environment_axis.list_axes(self.suite)
        found |= {axis.key: axis for axis in within}
        self.problems += [Problem(found[axis.key].place, f"'{axis.key}' is also zipped, by {axis.place}", "sweep it once")
                          for group in groups for axis in group if axis.key in found]
        self.problems += [suites.make_environment_problem(self.suite.place((*keys, "include", index)))
                          for index, values in enumerate(entry.get("include", ())) if ENVIRONMENT in values]
        included = [tuple((Axis(key, (value,), self.suite.place((*keys, "include", index))), value)
                          for key, value in values.items() if key != ENVIRONMENT) for index, values in enumerate(entry.get("include", ()))]
        for axis in within:
            included = [(*choice, (axis, name)) for choice in included for name in axis.values]
        return Sweeps(tuple(found.values()), tuple(groups), tuple(included))

    def _add_axes(self, found: dict[str, Axis], sweep: Mapping[str, Sequence[Any]], places: Mapping[str, str]) -> None:
        swept, problems = suites.axes(sweep, places)
        found |= {axis.key: axis for axis in swept}
        self.problems += problems

    def _list_exclusions(self, at: Keys, said: Mapping[str, Any]) -> list[Exclusion]:
        return [Exclusion(values, self.suite.place((*at, "exclude", index))) for index, values in enumerate(said.get("exclude", ()))]

    def _expand_model(self, name: str, keys: Keys, base: Layers, points: Sequence[Point], given: Sequence[Override]) -> None:
        seen: set[str] = set()
        for point in points:
            place = self.suite.place((*keys, "variants", point.variant) if point.variant else (*keys, "sweep"))
            self.problems += slugs.check_name(point.slug, seen, place)
            seen.add(point.slug.casefold())
            for job in self._build_jobs(name, point.slug, self._build_layers(name, keys, base, point, given)):
                self.found.jobs.append(job | environment_axis.describe(self.suite, point.environment))
                self.found.axes[job_id(job)] = point.axes

    def _build_layers(self, name: str, keys: Keys, base: Layers, point: Point, given: Sequence[Override]) -> Layers:
        said = self.suite.layers[0]
        steps = [(Override("", axis.keys, value, label=axis.place), axis.keys) for axis, value in point.values if axis.key != ENVIRONMENT]
        steps += [(override, override.keys[2:] if override.keys[1] == name else override.keys[1:]) for override in given]
        variant = Layer(said.label, point.tree, (*keys, "variants", point.variant), said.file) if point.variant else None
        own = base.over(variant) if variant else base
        if not implies_entries(own.data):
            return self._apply_overrides(own, steps)
        made = self._apply_overrides(own, [(override, path) for override, path in steps if path[0] == "factory"], quietly=True)
        try:
            tree = compose.resolve({**self.document, "model": {name: made.data}}, ("model", name))
        except ConfigError:  # reported with the whole tree
            tree = made.data
        below = base.on(Layer(base.layers[0].label, self.derived.imply(tree)))
        return self._apply_overrides(below.over(variant) if variant else below, steps)

    def _apply_overrides(self, layers: Layers, steps: Sequence[tuple[Override, Keys]], quietly: bool = False) -> Layers:
        """Apply overrides of a model's keys in order. quietly: without their problems, which a second call reports."""
        for override, path in steps:
            if path == ("stages",) and isinstance(override.value, str):
                options = self._read_option_file(override.value, override.place)
                layers = layers.over(options) if options else layers
                continue
            checked_later = path[0] == "stages" or (path[0] == "factory" and len(path) == 2)
            option = overrides.to_option(override) if checked_later else override
            layers, problems = overrides.apply_override(layers, option, path, ModelConfig)
            self.problems += [] if quietly else problems
        return layers

    def _read_option_file(self, name: str, place: str) -> Layer | None:
        """Return the layer of a file of configs/stages, named by a value of the key `stages`; None, with a problem added, if unreadable."""
        if name not in self.option_files:
            file = request.find_file("stages", name, self.asked.folders, self._find_base_folder())
            trees, problems = compose.read_trees("stages", [file], self.asked.folders) if file else ({}, [])
            if file is None:
                self.problems.append(request.make_missing_problem("stages", name, place, self.asked.folders, self._find_base_folder()))
            self.problems += problems
            readable = file is not None and file in trees
            self.option_files[name] = None
            if file and readable:
                self.option_files[name] = Layer(compose.label_file(file), {"stages": trees[file] or {}}, file=file, drop=1)
        return self.option_files[name]

    def _build_jobs(self, name: str, slug: str, layers: Layers) -> list[dict[str, Any]]:
        """Return the jobs of one point, one for each entry of its model; none, with problems added, if its tree does not fit."""
        try:
            tree = compose.resolve({**self.document, "model": {name: layers.data}}, ("model", name))
        except ConfigError as error:
            self.problems += [Problem(layers.layers[0].place(()), problem.cause, problem.fix) for problem in error.problems]
            return []
        if "models" in tree and "factory" not in tree:
            cause = "is a key of a suite, and the file of a model is expected here"
            self.problems.append(Problem(layers.place(("models",)), cause, "name it by suite="))
            return []
        shape = list(find_misfits(ModelConfig, tree))
        self.problems += layers.problems(shape)
        for misfit in shape:
            tree = remove_keys(tree, misfit.keys)
            if misfit.keys[0] == "symbols" and len(misfit.keys) == 2:  # declared, if wrongly
                tree = {**tree, "symbols": {**tree["symbols"], misfit.keys[1]: {}}}
        if shape and any(find_misfits(ModelConfig, tree)):
            return []
        wrong = checks.check_factory(tree["factory"], layers.place)
        if implies_entries(tree):
            if wrong := wrong or [Problem(layers.place(keys), cause, fix) for keys, cause, fix in self.derived.find_problems(tree)]:
                self.problems += wrong
                return []
            tree = drop_unused(tree, layers)
        if misfits := list(model_entries.find_entry_misfits(tree)):
            self.problems += layers.problems(misfits)
            return []
        changes = tree.get("stages", {})
        tree = {"inputs": {}, **remove_keys(tree, ("stages",))}  # `Model.problems` reports a model without inputs
        built = model_entries.build(name, tree)
        models = [model for model, _ in built]
        wrong += [*model_entries.find_problems(tree, models, layers.place), *model_entries.check_dropped(layers)]
        wrong += checks.check_libraries(models[0], layers.place)
        for model, locate in built:
            def place(keys: Keys, locate: Callable[[Keys], Keys] = locate) -> str:
                return layers.place(locate(keys))

            found = [(split_keys(problem.place)[1:], problem)
                     for problem in find_problems(model, is_whole=all(misfit.keys[0] != "inputs" for misfit in shape))]
            wrong += [Problem(place(keys), problem.cause, problem.fix) for keys, problem in found
                      if not any(misfit.keys[: len(keys)] == keys for misfit in shape)]  # what a value that is left out makes missing
            wrong += checks.check_inputs(model.trees, place)
            wrong += checks.check_arguments(model, place) if all(misfit.keys[0] != "inputs" for misfit in shape) else []
        wrong += checks.check_loss(models[0].loss, layers.place)
        stages = {stage: spec for stage, spec in merge(self.document.get("stages", {}), changes).items() if spec is not None}
        if changes and "stages" in self.document:
            wrong += checks.check_dropped(changes, self.document["stages"], layers.place)
            wrong += checks.check_stages(stages, self.document.get("until"), lambda keys: self._locate_option(layers, keys))
        stages, refused = sources.enter(stages, tree["factory"], self.document.get("until"))
        wrong += [Problem(layers.place(keys), cause, fix) for keys, cause, fix in refused]
        self.problems += wrong
        strict = self.document.get("strict_dims")
        strict = self.suite.data.get("strict_dims", False) if strict is None else strict
        return [] if shape else [
            {"variant": f"{slug}:{model.entry}" if model.entry else slug, "until": self.document.get("until"), "strict_dims": strict,
             "model": to_plain(model), "stages": stages} for model in models]

    def _locate_option(self, layers: Layers, keys: Keys) -> str:
        said = max(layer.count_keys(keys) for layer in layers.layers)
        return layers.place(keys) if said > 1 else self.root.place(keys)

