"""A checked `Run` made from overrides. All errors are found and reported together, before anything starts."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flows.config.plan import Plan, plan
from lowering import recipe
from lowering.errors import ConfigError, Problem
from lowering.job import DescribedJob, Job
from lowering.store import memory, provenance
from lowering.store.digests import compute_digest

STAGES = "stages"  # kind of facts that processes remember: stages with all of their options


@dataclass(frozen=True)
class Run:
    """A suite ready to execute: its plan, and the plan's jobs, whose stages accept their options."""

    plan: Plan
    jobs: tuple[Job | DescribedJob, ...]


def load(overrides: Sequence[str] = ()) -> Run:
    """Return the run of pipeline.yaml with `overrides` in Hydra's grammar. Raises ConfigError with every problem found."""
    return build(plan(overrides))


def build(planned: Plan) -> Run:
    """Return the run of a plan. Raises ConfigError if a stage refuses its options.

    Stages are instantiated, which imports the compilers, unless the same code has accepted the same options before.
    """
    jobs = [_describe_known(data) for data in planned.jobs]
    known = [job for job in jobs if job is not None]
    return Run(planned, tuple(known)) if len(known) == len(jobs) else Run(planned, _instantiate(planned))


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
