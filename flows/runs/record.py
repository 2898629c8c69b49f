"""The folder of a run: `runs/<run-id>/` with run.json, one prepared folder a job, and `latest` beside it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from flows.config.run import Run
from flows.runs import copies, environment
from lowering import files
from lowering.errors import InfraError, Problem
from lowering.job import Job
from lowering.plain import plain, structured
from lowering.record.folder import Limits, is_prepared, prepare
from lowering.record.result import Expectation, JobResult, not_run
from lowering.store import keys

SCHEMA = 1
RUN, ENDED, LOCK = "run.json", "ended.json", ".lock"
AGAIN = ("infra", "not_run")  # outcomes of jobs that the same command runs again


@dataclass(frozen=True)
class Record:
    """A run as its folder tells it. workers: jobs at a time; ids: the jobs in order."""

    folder: Path
    data: dict[str, Any]

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(job["id"] for job in self.data["jobs"])

    @property
    def workers(self) -> int:
        return int(self.data["workers"])

    def job_folder(self, job: str) -> Path:
        return self.folder / "jobs" / folder_name(job)

    @property
    def store(self) -> Path | None:
        """The store of stage results that the run's jobs use."""
        return (self.folder / self.data["store"]).resolve() if self.data.get("store") else None

    def unfinished(self) -> list[str]:
        """The jobs that have no result yet, or one that says nothing about the model."""
        results = {job: JobResult.load(self.job_folder(job)) for job in self.ids}
        return [job for job, result in results.items() if result is None or result.outcome in AGAIN]

    def results(self) -> list[JobResult]:
        """A row for every job; one without a committed result is `not_run`."""
        return [self.result(job["id"]) or replace(not_run(job["model"], job["variant"]), expect=self.expectation(job["id"]))
                for job in self.data["jobs"]]

    def result(self, job: str) -> JobResult | None:
        """What was committed of a job, and what was expected of it; None when there is nothing yet."""
        found = JobResult.load(self.job_folder(job))
        return found and replace(found, expect=self.expectation(job))

    def expectation(self, job: str) -> Expectation:
        return structured(Expectation, self.rows[job].get("expect") or {})

    @cached_property
    def rows(self) -> dict[str, dict[str, Any]]:
        """What run.json says of each job, by id: its `axes`, what to `expect`, and its `key`: equal when job, code and tools are."""
        return {job["id"]: job for job in self.data["jobs"]}


def begin(run: Run) -> Record:
    """The record of a run that is about to start, its jobs prepared; InfraError when the disk refuses.

    A run of the same jobs, by the same code, that was cut short goes on in its own record; else a new one is written.
    """
    started = datetime.now(UTC)
    codes = {job.id: keys.of(keys.job_parts(job.to_json(), {})) for job in run.jobs}
    identity = hashlib.sha256(files.encode(files.dumps([run.config, codes, plain(run.expected)]))).hexdigest()
    name = f"{folder_name(run.suite)}-{identity[:6]}"
    limits = Limits(run.limits.stage_seconds, run.limits.memory_bytes, compress_bytes=run.limits.compress_bytes)
    try:
        runs = run.output.absolute() / "runs"
        runs.mkdir(parents=True, exist_ok=True)
        cut_short = _cut_short(runs, name, identity)
        folder = cut_short or _fresh(runs, f"{started:%Y%m%dT%H%M%SZ}-{name}")
        for job in run.jobs:
            into = folder / "jobs" / folder_name(job.id)
            if cut_short is None or not is_prepared(into):
                prepare(job, into, limits, run.output.absolute() / "store" if run.cache else None)
        if cut_short is not None:
            _point(runs / "latest", folder.name)
            return load(folder)
        data = {
            "schema": SCHEMA,
            "run": folder.name,
            "identity": identity,
            "suite": run.suite,
            "started": started.isoformat(timespec="seconds"),
            "overrides": list(run.overrides),
            "workers": run.cluster.workers or workers_here(len(run.jobs)),
            "cluster": plain(run.cluster),
            "limits": plain(limits),
            "patience": {"run_seconds": run.limits.run_seconds, "retries": run.limits.retries, "retry_seconds": run.limits.retry_seconds},
            "store": os.path.relpath(run.output.absolute() / "store", folder) if run.cache else None,
            "jobs": [{"id": job.id, "model": job.model.name, "variant": job.variant, "gpu": wants_gpu(job), "key": codes[job.id],
                      "axes": dict(run.axes.get(job.id, {})), "expect": plain(run.expected.get(job.id, Expectation()))} for job in run.jobs],
            "expectations": str(run.expectations) if run.expectations else None,
            "whole": run.whole,
            "environment": environment.describe(),
            "command": sys.argv,
            "config": run.config,
        }
        files.write(folder / RUN, data)
        copies.begun(load(folder))
        _point(folder.parent / "latest", folder.name)
    except OSError as error:
        raise InfraError(Problem(str(error.filename or run.output), f"the run's record cannot be written: {error.strerror}",
                                 "free or choose another disk: output=FOLDER")) from error
    return load(folder)


def load(folder: Path) -> Record:
    """The record in `folder`; InfraError when it is none."""
    try:
        data = files.read(folder / RUN)
    except (OSError, ValueError) as error:
        raise InfraError(Problem(str(folder), f"is not the folder of a run: {error}", "name one of artifacts/runs/")) from error
    if data.get("schema") != SCHEMA:
        raise InfraError(Problem(str(folder / RUN), f"has schema {data.get('schema')}, this version reads {SCHEMA}"))
    return Record(folder, data)


def workers_here(jobs: int) -> int:
    """How many jobs this machine runs at a time at most: as many as it has cores; each also waits for the memory it needs."""
    return max(1, min(len(os.sched_getaffinity(0)), jobs))


def wants_gpu(job: Job) -> bool:
    """Whether a stage of the job is told to use a GPU, if there is one."""
    options = [value for stage in job.stages.values() for value in plain(stage).values()]
    return any(value in ("gpu", "cuda") or (isinstance(value, list) and {"gpu", "cuda"}.intersection(map(str, value))) for value in options)


def folder_name(text: str) -> str:
    """`text` as the name of a folder: what a shell or a file system would trip over becomes `_`, with a digest to stay distinct."""
    plainer = re.sub(r"[^A-Za-z0-9_.=,+-]", "_", text)[:120].lstrip(".")
    return plainer if plainer == text else f"{plainer}-{hashlib.sha256(files.encode(text)).hexdigest()[:6]}"


def _fresh(runs: Path, name: str) -> Path:
    """A new folder called `name`, this process's; a run of the same second and jobs gets a number."""
    number = 1
    while True:
        folder = runs / (name if number == 1 else f"{name}-{number}")
        with suppress(FileExistsError):
            folder.mkdir()
            _lock(folder)
            return folder
        number += 1


def _cut_short(runs: Path, name: str, identity: str) -> Path | None:
    """The newest run of that identity, if it has not come to its end and no process is at it; it is then this process's."""
    for folder in sorted(runs.glob(f"*-{name}*"), reverse=True):
        with suppress(OSError, ValueError):
            if files.read(folder / RUN).get("identity") == identity:
                return folder if not (folder / ENDED).exists() and _lock(folder) else None
    return None


_locks: dict[Path, int] = {}


def _lock(folder: Path) -> bool:
    """Whether the run in `folder` is this process's from here on: the lock goes when the process does, however it ends."""
    file = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return False
    except OSError:  # a file system without locks: two runs of one identity at once are then not told apart
        return True
    _locks[folder] = file
    return True


def end(run: Record, seconds: float) -> None:
    """Note that the run came to its end: the same command starts another from now on. Raises OSError."""
    files.write(run.folder / ENDED, {"ended": datetime.now(UTC).isoformat(timespec="seconds"), "seconds": round(seconds, 3)})
    if (file := _locks.pop(run.folder, None)) is not None:
        os.close(file)


def _point(link: Path, target: str) -> None:
    draft = link.with_name(f".{link.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    draft.symlink_to(target)
    draft.replace(link)


def again(record: Record, jobs: Sequence[str]) -> str:
    """The command that runs `jobs` of this run again."""
    if len(jobs) == len(record.ids):
        return shlex.join(["shapeline", "run", *record.data["overrides"]])
    overrides = [override for override in record.data["overrides"] if not override.startswith("select=")]
    return shlex.join(["shapeline", "run", *overrides, "-k", " or ".join(jobs)])
