"""A checked `Run` made from overrides. All errors are found and reported together, before anything starts."""

from __future__ import annotations

import json
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flows.config.plan import Plan, plan
from lowering import recipe
from lowering.errors import ConfigError, Problem
from lowering.job import DescribedJob, Job
from lowering.store import memory, provenance
from lowering.store.digests import compute_digest
from lowering.worker.describing import Described

Describe = Callable[[Sequence[Mapping[str, Any]]], Sequence[Described] | None]
STAGES = "stages"  # kind of facts that processes remember: stages with all of their options


@dataclass(frozen=True)
class Run:
    """A suite ready to execute: its plan, and the plan's jobs, whose stages accept their options."""

    plan: Plan
    jobs: tuple[Job | DescribedJob, ...]


def load(overrides: Sequence[str] = ()) -> Run:
    """Return the run of pipeline.yaml with `overrides` in Hydra's grammar. Raises ConfigError with every problem found."""
    return build(plan(overrides))


def build(planned: Plan, describe: Describe | None = None) -> Run:
    """Return the run of a plan. Raises ConfigError if a stage refuses its options.

    Stages are instantiated, which imports the compilers, unless the same code has accepted the same options before.
    describe: instantiates stages in another process.
    """
    jobs = [_describe_known(data) for data in planned.jobs]
    known = [job for job in jobs if job is not None]
    if len(known) == len(jobs):
        return Run(planned, tuple(known))
    elsewhere = _describe_elsewhere(planned, describe) if describe is not None else None
    return Run(planned, elsewhere or _instantiate(planned))


def _describe_elsewhere(planned: Plan, describe: Describe) -> tuple[DescribedJob, ...] | None:
    """Return the jobs of a plan, whose stages another process instantiates. Raises ConfigError if one refuses its options.

    Return None if that process fails: the error then comes up in this one, with its traceback.
    """
    specs = {_spell(spec): spec for data in planned.jobs for spec in data["stages"].values()}
    if (answers := describe(list(specs.values()))) is None:
        return None
    found = dict(zip(specs, answers, strict=True))
    problems: list[Problem] = []
    for data in planned.jobs:
        refusals = [one.problems for spec in data["stages"].values() if (one := found[_spell(spec)]).stage is None]
        problems += refusals[0] if refusals else ()  # as of a job that is built, stage by stage
    if problems:
        raise ConfigError(tuple(dict.fromkeys(problems)))
    for text, spec in specs.items():
        if (key := _make_key(spec)) is not None:
            memory.remember(STAGES, key, found[text].stage)
    return tuple(DescribedJob({**data, "stages": {name: found[_spell(spec)].stage for name, spec in data["stages"].items()}})
                 for data in planned.jobs)


def _spell(spec: Mapping[str, Any]) -> str:
    return json.dumps(spec, sort_keys=True)


def _instantiate(planned: Plan) -> tuple[Job, ...]:
    problems: list[Problem] = []
    jobs: list[Job] = []
    for data in planned.jobs:
        try:
            job = Job.from_json(data)
        except ConfigError as error:
            problems += error.problems
            continue
        jobs.append(job)
        for name, spec in data["stages"].items():
            if (key := _make_key(spec)) is not None:
                memory.remember(STAGES, key, recipe.describe(job.stages[name]))
    if problems:
        raise ConfigError(tuple(dict.fromkeys(problems)))
    return tuple(jobs)


def _describe_known(data: Mapping[str, Any]) -> DescribedJob | None:
    """Return a job with all options of its stages; None if the defaults of one are not known."""
    stages: dict[str, Any] = {}
    for name, spec in data["stages"].items():
        key = _make_key(spec)
        if key is None or (stages.setdefault(name, memory.recall(STAGES, key))) is None:
            return None
    return DescribedJob({**data, "stages": stages})


def _make_key(spec: Mapping[str, Any]) -> str | None:
    """Return a digest of what a stage and its defaults depend on; None if its code is not seen."""
    target = spec[recipe.TARGET]
    source = provenance.digest_sources(target)
    return compute_digest([dict(spec), source, provenance.list_versions(target), platform.node()]) if source else None
