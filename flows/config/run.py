"""A checked `Run` made from overrides. All errors are found and reported together, before anything starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flows.config.plan import Plan, plan
from lowering.errors import ConfigError, Problem
from lowering.job import Job


@dataclass(frozen=True)
class Run:
    """A suite ready to execute: its plan, and the plan's jobs with their stages instantiated."""

    plan: Plan
    jobs: tuple[Job, ...]


def load(overrides: Sequence[str] = ()) -> Run:
    """Return the run of pipeline.yaml with `overrides` in Hydra's grammar. Raises ConfigError with every problem found."""
    return build(plan(overrides))


def build(planned: Plan) -> Run:
    """Instantiate the stages of a plan. Raises ConfigError if a stage refuses its options."""
    problems: list[Problem] = []
    jobs: list[Job] = []
    for data in planned.jobs:
        try:
            jobs.append(Job.from_json(data))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(tuple(dict.fromkeys(problems)))
    return Run(planned, tuple(jobs))
