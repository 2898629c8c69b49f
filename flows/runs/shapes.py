"""The parts of run.json and report.json that commands read, as types: a record that lacks them, or has other values there, is damaged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from lowering import files
from lowering.errors import ConfigError, Problem
from lowering.fitting import find_misfit
from lowering.record.result import OUTCOMES, UNSPECIFIED, Expectation, StageResult
from lowering.symbols.reported import Symbols


@dataclass(frozen=True)
class Job:
    """A job of run.json."""

    id: str
    model: str = ""
    variant: str = ""
    key: str | None = None
    gpu: bool = False
    axes: Mapping[str, Any] | None = None
    expect: Expectation | None = None


@dataclass(frozen=True)
class Run:
    """The part of run.json that every command needs."""

    run: str
    jobs: tuple[Job, ...]
    suite: str = ""
    overrides: tuple[str, ...] = ()
    workers: int = 1
    store: str | None = None
    expectations: str | None = None
    config: Mapping[str, Any] | None = None
    limits: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Machine:
    host: str
    cpu: str
    cores: int
    memory_bytes: int
    gpus: tuple[str, ...]


@dataclass(frozen=True)
class Environment:
    python: str
    packages: Mapping[str, str | None]
    machine: Machine
    git: Mapping[str, str | bool | None] | None


@dataclass(frozen=True)
class Whole:
    """The part of run.json that a report needs."""

    run: str
    suite: str
    started: str
    overrides: tuple[str, ...]
    workers: int
    environment: Environment


@dataclass(frozen=True)
class Level:
    stem: str
    digest: str
    size: int


@dataclass(frozen=True)
class Cause:
    place: str
    cause: str


@dataclass(frozen=True)
class ReportedJob:
    """A job of report.json."""

    id: str
    model: str
    outcome: str
    expected: str
    stage: str
    seconds: float
    stages: tuple[StageResult, ...]
    problems: tuple[Cause, ...]
    symbols: Symbols | None
    peak_rss_bytes: int | None = None
    levels: tuple[Level, ...] = ()


@dataclass(frozen=True)
class Report:
    """The part of report.json that comparisons need."""

    run: str
    suite: str
    started: str
    as_expected: bool
    jobs: tuple[ReportedJob, ...]
    outcomes: Mapping[str, int]
    seconds: float | None = None
    environment: Mapping[str, Any] = field(default_factory=dict)


def check(kind: Any, data: Any, file: Path) -> None:
    """Check the data of a record against one of these types. Raises ConfigError that names the file and the key."""
    misfit = find_misfit(kind, data)
    if not misfit and (started := data.get("started")):
        try:
            datetime.fromisoformat(started)
        except ValueError:
            misfit = f"started: {started!r:.60} is not a time"
    if not misfit:
        wrong = (job for job in data["jobs"] if job.get("outcome", "ok") not in OUTCOMES)
        misfit = next((f"jobs: '{job['id']:.60}' has the outcome {job['outcome']!r:.60}" for job in wrong), "")
    if not misfit:
        others = (job for job in data["jobs"] if job.get("model") and "variant" in job and job["id"] != f"{job['model']}--{job['variant']}")
        misfit = next((f"jobs: '{job['id']:.60}' is not the id of {job['model']:.60}--{job['variant']:.60}" for job in others), "")
    if not misfit:
        expects = (job for job in data["jobs"] if isinstance(job.get("expect"), Mapping))
        misfit = next((f"jobs: '{job['id']:.60}' expects {job['expect']['outcome']!r:.60}" for job in expects
                       if job["expect"].get("outcome", "ok") not in (*OUTCOMES, UNSPECIFIED)), "")
    if misfit:
        key, _, cause = misfit.partition(": ")
        raise ConfigError(Problem(f"{file} {key}".rstrip(), cause, "the record is damaged: use another run, or run the jobs again"))


def read_report(file: Path) -> dict[str, Any]:
    """Read a report.json. Raises ConfigError that names the file and the key if it is damaged."""
    try:
        data = files.read(file)
    except (OSError, ValueError) as error:
        raise ConfigError(Problem(str(file), f"cannot be read: {error}", "shapeline report RUN writes it again")) from error
    check(Report, data, file)
    return dict(data)
