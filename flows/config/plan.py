"""Planning: compose the configuration, apply overrides, expand the suite, and check everything, without importing torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from flows import output
from flows.config import checks, compose, cron, expansion, expectations, overrides, request, selection, shards
from flows.config.derived import Derived
from flows.config.document import GROUPS, MAIN_ROUTE, ROUTES, Cluster, Document, Limits, ModelConfig, Nightly, Server, Worker
from flows.config.layers import Layer, Layers
from flows.config.overrides import LABEL, Override
from flows.config.request import Request
from flows.config.schema import get_field_names
from flows.config.suite import Suite
from lowering.errors import ConfigError, Problem
from lowering.fitting import find_misfits
from lowering.plain import from_plain, to_plain
from lowering.record.result import Expectation


@dataclass(frozen=True)
class Plan:
    """A checked configuration whose jobs are plain data, for `Job.from_json`, so that planning does not import torch.

    output: the folder that holds `runs/` and `store/`.
    overrides: strings from which `plan` makes an equal plan: the flow's parameter, and the command that repeats the run.
    config: the resolved configuration as plain data. total: number of jobs before `select`.
    axes: by job id, the variant and the swept values, by key. expected: by job id, the expectation (absent: ok).
    expectations: the file of the expectations, if the jobs are the suite's own, not swept by the command line.
    """

    suite: str
    jobs: tuple[Mapping[str, Any], ...] = ()
    cluster: Cluster = Cluster()
    limits: Limits = Limits()
    output: Path = Path("artifacts")
    overrides: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    total: int = 0
    axes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    expected: Mapping[str, Expectation] = field(default_factory=dict)
    expectations: Path | None = None
    server: Server = Server()
    worker: Worker = Worker()

    @property
    def whole(self) -> bool:
        """Whether the plan has all jobs of the suite."""
        return len(self.jobs) == self.total

    @property
    def cache(self) -> bool:
        """Whether the store of stage results is used."""
        return bool(self.config.get("cache", True))


def _check_tracker(settings: Mapping[str, Any] | None, place: Callable[[str], str]) -> list[Problem]:
    """Return the problems of `nightly.tracker`: what its kind needs, and does not have."""
    settings = settings or {}
    kind, repository = settings.get("kind"), settings.get("repository") or ""
    if kind == "github" and not re.fullmatch(r"[\w.-]+/[\w.-]+", repository):
        cause = f"'{repository}' is not the name of a repository" if repository else "is needed by the kind github"
        return [Problem(place("repository"), cause, "write it as owner/name")]
    if kind == "github" and not settings.get("labels", True):
        return [Problem(place("labels"), "is empty, and open tickets are found by label", "name at least one")]
    if kind == "github" and not re.match(r"https?://[^/]", settings.get("url", "https://api.github.com")):
        return [Problem(place("url"), f"'{settings['url']}' is not the address of an API", "for example https://github.example.com/api/v3")]
    if kind == "command" and not settings.get("command"):
        return [Problem(place("command"), "is needed by the kind command", "name a shell command")]
    needs = {"repository": "github", "command": "command"}
    return [Problem(place("kind"), f"is null, and {key} is given", f"set it to {needs[key]}, or remove {key}")
            for key in needs if settings.get(key)] if kind is None else []


def plan(texts: Sequence[str] = (), derived: Derived | None = None) -> Plan:
    """Return the plan of pipeline.yaml with overrides in Hydra's grammar. Raises ConfigError with every problem found.

    derived: knows the entries that follow from factories, and keeps those that were asked for.
    """
    asked, problems = request.read(texts)
    try:
        parts = _compose_parts(asked)
    except ConfigError as error:
        raise ConfigError(remove_duplicates([*problems, *error.problems])) from error
    problems += _apply_overrides(parts, asked)
    root, suite = parts["root"], parts.get("suite")
    document, found = _resolve_valid(root)
    problems += found
    if document.get("output") == "":
        problems.append(Problem(root.place(("output",)), "is empty", "name a folder or a URL"))
    if (document.get("nightly") or {}).get("webhook"):
        fix = "export SHAPELINE_WEBHOOK=URL, or make a Prefect Secret shapeline-webhook"
        problems.append(Problem(root.place(("nightly", "webhook")), "is a secret, and would be written into every record", fix))
    problems += _check_tracker((document.get("nightly") or {}).get("tracker"), lambda key: root.place(("nightly", "tracker", key)))
    problems += _check_schedule(document, root)
    problems += _check_cluster(document.get("cluster") or {}, root)
    if "stages" in document:
        stages = {name: spec for name, spec in document["stages"].items() if spec is not None}
        problems += checks.check_dropped(document["stages"], root.layers[0].data["stages"], root.place)
        problems += checks.check_stages(stages, document.get("until"), root.place)
    expanded = expansion.Expansion()
    if suite is not None:
        shape = list(find_misfits(Suite, suite.data))
        if "factory" in suite.data and "models" not in suite.data:
            problems.append(Problem(suite.place(("factory",)), "is a key of a model, and a suite is expected here", "name it by model="))
        else:
            problems += suite.problems(shape)
        if not shape:
            expanded, found = expansion.expand(suite, asked, root, document, derived)
            problems += found
    if suite is not None and not problems and not expanded.jobs:
        problems.append(Problem(suite.place(("exclude",)), "leaves no job", "drop an item of exclude"))
    selected, found = _select_jobs(expanded.jobs, document, root)
    problems += found
    file, expected = None, dict[str, Expectation]()
    if suite is not None and (suite_file := suite.layers[0].file) is not None:
        altered = any(override.group == "suite" or override.how == "sweep" for override in asked.values)
        file = expectations.find_file(suite_file, asked.folders)
        ids = [expansion.job_id(job) for job in expanded.jobs]
        expected, found = expectations.read_for_plan(file, ids, complete=not altered and not problems)
        problems += found
        file = None if altered else file
    if problems:
        raise ConfigError(remove_duplicates(problems))
    name = _name_suite(asked, parts)
    config = {**document, "suite": {"name": name, **(suite.data if suite else {})}}
    said = document.get("server", {})
    return Plan(name, tuple(selected), from_plain(Cluster, document["cluster"]), from_plain(Limits, document.get("limits", {})),
                output.locate(document.get("output", "artifacts")), asked.texts, config, len(expanded.jobs), expanded.axes, expected, file,
                from_plain(Server, {"kind": said} if isinstance(said, str) else said), from_plain(Worker, document.get("worker", {})))


def _check_schedule(document: Mapping[str, Any], root: Layers) -> list[Problem]:
    nightly = {**to_plain(Nightly()), **(document.get("nightly") or {})}
    found = []
    if wrong := cron.find_problem(nightly["cron"]):
        found.append(Problem(root.place(("nightly", "cron")), f"'{nightly['cron']}' is no schedule: {wrong}", "cron: 0 2 * * *"))
    if not cron.is_timezone(nightly["timezone"]):
        found.append(Problem(root.place(("nightly", "timezone")), f"'{nightly['timezone']}' is no time zone", "timezone: Europe/Berlin"))
    return found


def _check_cluster(cluster: Mapping[str, Any], root: Layers) -> list[Problem]:
    """Return the problems of settings that threads, which have no cluster, do not read."""
    if cluster.get("runner", "threads") != "threads":
        return []
    cause, fix = "is a setting of Dask and Ray, and the jobs run on threads", "add cluster=dask or cluster=ray"
    return [Problem(root.place(("cluster", key)), cause, fix)
            for key in ("address", "cluster_class", "options") if cluster.get(key)]


def remove_duplicates(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """Return problems without duplicates, in order: all variants of a model report its problems."""
    return tuple(dict.fromkeys(problems))


def _resolve_valid(root: Layers) -> tuple[dict[str, Any], list[Problem]]:
    """Resolve `root`, with invalid keys set to their defaults, so that the rest can be checked; also return all problems."""
    found = list(find_misfits(Document, root.data))
    wrong = {misfit.keys[0] for misfit in found}
    problems = root.problems(found)
    try:
        sound = {key: value for key, value in root.data.items() if key not in wrong}
        return compose.resolve({**_get_defaults(wrong), **sound}), problems
    except ConfigError as error:
        return {}, [*problems, *error.problems]


def _get_defaults(names: Collection[str | int]) -> dict[str, Any]:
    """Return the defaults of those keys of the configuration that have one."""
    return {item.name: to_plain(item.default) for item in fields(Document) if item.name in names and item.default is not MISSING}


def _compose_parts(asked: Request) -> dict[str, Layers]:
    """Compose `root` (pipeline.yaml with cluster and stages) and, unless its choice failed, `suite`."""
    if problems := [problem for group, file in asked.files.items() for problem in compose.check_file(group, file, asked.folders)]:
        raise ConfigError(problems)
    choices = []
    for group in ("suite", "cluster"):
        file = asked.files.get(group)
        name = asked.folders.name(group, file) if file and not (group == "suite" and compose.read_alone(file)) else None
        if name:
            choices.append(f"{group}={name}")
        elif file or group in asked.failed or (group == "suite" and asked.models):
            choices.append(f"~{group}")
    tree, chosen = compose.compose_tree(choices, asked.folders)
    own = {key: value for key, value in tree.items() if key not in ("suite", "cluster")}
    root = Layers.from_layer(Layer(compose.label_file(compose.PIPELINE), own, file=compose.PIPELINE))
    root = _apply_route(root, asked)
    parts = {}
    for group in GROUPS:
        file = asked.files.get(group) or (asked.folders.file(group, chosen[group]) if group in chosen else None)
        if file is None:
            continue
        content = tree[group] if group in chosen else _read_group(group, file, asked)
        if group == "suite":
            parts["suite"] = Layers.from_layer(Layer(compose.label_file(file), content or {}, file=file))
        else:
            root = root.over(Layer(compose.label_file(file), {group: content or {}}, file=file, drop=1))
    if asked.models:
        models = {name: {"model": str(file)} for name, file in asked.models.items()}
        parts["suite"] = Layers.from_layer(Layer(LABEL, {"models": models}))
    return {"root": root, **parts}


def _apply_route(root: Layers, asked: Request) -> Layers:
    """Return `root` with the stages of its `route`. The command line's stages and options are applied on top later."""
    said = [override.value for override in asked.values if override.keys == ("route",)]
    route = said[-1] if said else root.data.get("route", MAIN_ROUTE)
    file = compose.Folders().file("stages", route) if route in ROUTES and route != MAIN_ROUTE else None
    return root.over(Layer(compose.label_file(file), {"stages": _read_group("stages", file, asked)}, file=file, drop=1)) if file else root


def _read_group(group: str, file: Path, asked: Request) -> Any:
    found, problems = compose.read_trees(group, [file], asked.folders)
    if problems:
        raise ConfigError(problems)
    return found[file]


def _apply_overrides(parts: dict[str, Layers], asked: Request) -> list[Problem]:
    """Apply all overrides except those of models to `parts`, and return the problems found."""
    problems = []
    for override in asked.values:
        if override.group == "model" or (override.group == "stages" and override.how == "sweep"):
            continue
        if override.how == "sweep":
            problems.append(Problem(f"{LABEL} {override.text}", "only keys of models and stages can be swept", "give one value"))
        elif override.group == "suite":
            if "suite" in parts:
                parts["suite"], found = overrides.apply_override(parts["suite"], override, override.keys[1:], Suite)
                problems += found
        else:
            how = overrides.to_option(override) if override.group == "stages" else override
            parts["root"], found = overrides.apply_override(parts["root"], how, override.keys, Document, ("suite", "model"))
            if override.group in get_field_names(Suite):
                found = [replace(problem, fix=f"a key of the suite is written {_prefix(override, 'suite')}") for problem in found]
            elif override.group in (*get_field_names(ModelConfig), *_list_models(parts)) and override.group != "stages":
                found = [replace(problem, fix=f"a key of a model is written {_prefix(override, 'model')}") for problem in found]
            problems += found
    return problems


def _prefix(override: Override, group: str) -> str:
    """Return the text of an override with its key in a group."""
    signs = re.match(r"[+~]*", override.text)
    return f"{signs[0]}{group}.{override.text[signs.end():]}" if signs else override.text


def _list_models(parts: Mapping[str, Layers]) -> Sequence[str]:
    """Return the names of models that the suite says, as far as they are names."""
    said = parts["suite"].data.get("models") if "suite" in parts else None
    return [str(name) for name in said] if isinstance(said, Mapping | list) else []


def _select_jobs(jobs: list[dict[str, Any]], document: Mapping[str, Any], root: Layers) -> tuple[list[dict[str, Any]], list[Problem]]:
    """Return the jobs that `select` matches, restricted to one `shard`, and all problems."""
    expression = document.get("select", "")
    place = root.place(("select",))
    try:
        predicate = selection.parse(expression)
    except ValueError as error:
        return [], [Problem(place, f"cannot parse '{expression}': {error}", "join words with and, or, not and parentheses")]
    selected = {job_id: job for job in jobs if predicate(job_id := expansion.job_id(job))}
    if jobs and not selected:
        some = ", ".join([expansion.job_id(job) for job in jobs[:8]] + ["..."] * (len(jobs) > 8))
        return [], [Problem(place, f"'{expression}' selects none of the {len(jobs)} jobs", f"ids: {some}")]
    places = {key: root.place((key,)) for key in ("shard", "durations")}
    kept, problems = shards.choose_shard(list(selected), document.get("shard"), document.get("durations"), places)
    return [selected[job_id] for job_id in kept], problems


def _name_suite(asked: Request, parts: Mapping[str, Layers]) -> str:
    if asked.models:
        return "-".join(asked.models)
    file = parts["suite"].layers[0].file
    return file.stem if file else "suite"
