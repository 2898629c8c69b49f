"""History of a folder's runs: new, recurring and fixed failures of each run, and the course of each model."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from lowering.record.result import UNJUDGED

NIGHTS = 14  # runs of a suite in the overview of nights
POINTS = 30  # runs of a model in its page
SLOWER, FASTER = 1.5, 1 / 1.5  # factors of time between two measured runs that the page of a model mentions
COLUMNS = ("run", "started", "jobs", "ok", "cached", "seconds", "peak", "ir", "level", "kept", "dims", "error", "changes")
_QUERY = """
select runs.run, runs.suite, runs.started, jobs.job, jobs.model, jobs.outcome, jobs.good, jobs.stage, jobs.signature, jobs.cached,
       jobs.cost_seconds, jobs.cost_peak, jobs.ir_bytes, jobs.level, jobs.dims_kept, jobs.dims, jobs.error, jobs.digest
from jobs join runs using (run) where runs.run in (
  select run from (select run, row_number() over (partition by suite order by started desc, run desc) as number from runs)
  where number <= ?)
order by runs.started, runs.run
"""


@dataclass
class _Point:
    """A run of a model: the sums over its jobs, and what changed since the run before."""

    run: str
    started: str
    jobs: int = 0
    ok: int = 0
    cached: int = 0
    seconds: float | None = None
    peak: int | None = None
    ir: int = 0
    levels: list[str] = field(default_factory=list)
    kept: int = 0
    dims: int = 0
    error: float | None = None
    changes: list[str] = field(default_factory=list)

    def add(self, job: sqlite3.Row, before: sqlite3.Row | None) -> None:
        self.jobs += 1
        self.ok += job["good"]
        self.cached += job["cached"]
        if job["cost_seconds"] is not None:
            self.seconds = (self.seconds or 0.0) + job["cost_seconds"]
        self.peak = max(filter(None, (self.peak, job["cost_peak"])), default=None)
        self.ir += job["ir_bytes"]
        self.levels.append(job["level"])
        self.kept += job["dims_kept"]
        self.dims += job["dims"]
        self.error = max((error for error in (self.error, job["error"]) if error is not None), default=None)
        if before is not None:
            self.changes += [f"{job['job']}: {text}" for text in _compare(before, job)]

    def to_row(self) -> list[Any]:
        level = min(self.levels, key=_ORDER.index) if all(one in _ORDER for one in self.levels) else ""
        seconds = None if self.seconds is None else round(self.seconds, 3)
        return [self.run, self.started, self.jobs, self.ok, self.cached, seconds, self.peak, self.ir, level, self.kept, self.dims,
                self.error, self.changes]  # fmt: skip


_ORDER = ("", "export", "transform", "torchscript", "torch", "stablehlo", "mhlo")


def read_models(connection: sqlite3.Connection, limit: int = POINTS) -> list[dict[str, Any]]:
    """Return every model of every suite with a row of COLUMNS for each of its last runs, oldest first.

    Jobs without a verdict are left out. seconds, peak: what the stages cost when they last ran; cached: how many of its jobs took stages
    from the store; level: the lowest of the last levels of its jobs; kept: how many of `dims` stayed dynamic; error: the largest relative
    error; changes: since the run before, as text.
    """
    points: dict[tuple[str, str], dict[str, _Point]] = {}
    last: dict[tuple[str, str], sqlite3.Row] = {}
    for job in _read_jobs(connection, limit):
        if job["outcome"] in UNJUDGED:
            continue
        point = points.setdefault((job["suite"], job["model"]), {}).setdefault(job["run"], _Point(job["run"], job["started"]))
        point.add(job, last.get((job["suite"], job["job"])))
        last[job["suite"], job["job"]] = job
    return [{"suite": suite, "model": model, "points": [point.to_row() for point in runs.values()]}
            for (suite, model), runs in sorted(points.items())]


def read_nights(connection: sqlite3.Connection, limit: int = NIGHTS) -> list[dict[str, Any]]:
    """Return the last runs of each suite, newest first, with the numbers of jobs that fail newly, fail again, and are fixed.

    A job without a verdict counts as `unjudged`, and the next run compares with its last verdict. A job's first result is new if it fails.
    """
    found: dict[str, dict[str, Any]] = {}
    good: dict[tuple[str, str], bool] = {}
    for job in _read_jobs(connection, limit + 1):
        night = found.setdefault(job["run"], {"run": job["run"], "suite": job["suite"], "started": job["started"], "jobs": 0,
                                              "new": 0, "recurring": 0, "fixed": 0, "unjudged": 0})  # fmt: skip
        night["jobs"] += 1
        if job["outcome"] in UNJUDGED:
            night["unjudged"] += 1
            continue
        before = good.get((job["suite"], job["job"]))
        if not job["good"]:
            night["recurring" if before is False else "new"] += 1
        elif before is False:
            night["fixed"] += 1
        good[job["suite"], job["job"]] = bool(job["good"])
    suites: dict[str, list[dict[str, Any]]] = {}
    for night in found.values():
        suites.setdefault(night["suite"], []).append(night)
    return [night for nights in suites.values() for night in nights[: -limit - 1 : -1]]


def _read_jobs(connection: sqlite3.Connection, limit: int) -> Iterator[sqlite3.Row]:
    """Yield the jobs of the last `limit` runs of each suite, oldest first."""
    cursor = connection.cursor()
    cursor.row_factory = sqlite3.Row
    yield from cursor.execute(_QUERY, (limit,))


def _compare(before: sqlite3.Row, now: sqlite3.Row) -> Iterator[str]:
    if before["good"] != now["good"]:
        yield "fixed" if now["good"] else f"fails: {now['signature']}"
    elif not now["good"] and before["signature"] != now["signature"]:
        yield f"fails otherwise: {now['signature']}"
    if now["dims"] == before["dims"] and now["dims_kept"] != before["dims_kept"]:
        yield f"{now['dims_kept']} of {now['dims']} dims dynamic, {before['dims_kept']} before"
    if before["level"] == now["level"] and before["digest"] != now["digest"] and now["digest"]:
        yield f"IR of {now['level']} changed"
    if before["stage"] == now["stage"] and before["cost_seconds"] and now["cost_seconds"] and not now["cached"]:
        ratio = now["cost_seconds"] / before["cost_seconds"]
        if (ratio > SLOWER or ratio < FASTER) and abs(now["cost_seconds"] - before["cost_seconds"]) > 0.5:
            yield f"{ratio:.1f} times the time"
