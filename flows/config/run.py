"""Overrides in, a checked `Run` out: everything that is wrong is found, and said at once, before anything starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flows.config.document import Cluster, Limits
from flows.config.plan import Plan, plan
from lowering.errors import ConfigError, Problem
from lowering.job import Job
from lowering.record.result import Expectation

__all__ = ["Cluster", "Limits", "Plan", "Run", "build", "load", "plan"]


@dataclass(frozen=True)
class Run:
    """A suite about to be executed: every job checked and built.

    overrides: plain strings from which `load` gives this run again (the flow's parameter, and the replay command).
    config: the resolved configuration as plain data; output: the folder that holds `runs/` and `store/`; cache: whether the store is used.
    axes, expected: by job id, the values that distinguish it, and how it should end (absent: ok); expectations: the file that says so.
    whole: whether these are all jobs of the suite.
    """

    suite: str
    jobs: tuple[Job, ...]
    cluster: Cluster = Cluster()
    limits: Limits = Limits()
    output: Path = Path("artifacts")
    overrides: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)
    cache: bool = True
    axes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    expected: Mapping[str, Expectation] = field(default_factory=dict)
    expectations: Path | None = None
    whole: bool = True


def load(overrides: Sequence[str] = ()) -> Run:
    """The run that pipeline.yaml describes under `overrides` (Hydra's grammar); ConfigError holds every problem found."""
    return build(plan(overrides))


def build(planned: Plan) -> Run:
    """The run of a plan, its stages instantiated; ConfigError when a stage refuses its options."""
    problems: list[Problem] = []
    jobs: list[Job] = []
    for data in planned.jobs:
        try:
            jobs.append(Job.from_json(data))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(tuple(dict.fromkeys(problems)))
    return Run(planned.suite, tuple(jobs), planned.cluster, planned.limits, planned.output, planned.overrides, planned.config,
               bool(planned.config.get("cache", True)), planned.axes, planned.expected, planned.expectations, planned.whole)
