"""Overrides in, a checked `Run` out: everything that is wrong is found, and said at once, before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lowering.job import Job


@dataclass(frozen=True)
class Limits:
    """What one job may use: wall seconds of one stage, bytes of resident memory of its process (None: no limit)."""

    stage_seconds: float = 900.0
    memory_bytes: int | None = None


@dataclass(frozen=True)
class Cluster:
    """Where jobs run. `runner`: how the flow's tasks are started; `workers`: jobs at a time (None: as many as the machine bears)."""

    runner: Literal["threads"] = "threads"
    workers: int | None = None


@dataclass(frozen=True)
class Run:
    """A suite about to be executed: every job checked and built.

    overrides: plain strings from which `load` gives this run again (the flow's parameter, and the replay command).
    config: the resolved configuration as plain data; output: the folder that holds `runs/` and `store/`.
    """

    suite: str
    jobs: tuple[Job, ...]
    cluster: Cluster = Cluster()
    limits: Limits = Limits()
    output: Path = Path("artifacts")
    overrides: tuple[str, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict)


def load(overrides: list[str]) -> Run:
    raise NotImplementedError
