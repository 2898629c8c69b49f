"""The folder of a run: `runs/<run-id>/` with run.json, one prepared folder a job, and `latest` beside it."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows import environment
from flows.config import Run
from lowering import files, worker
from lowering.errors import InfraError, Problem
from lowering.job import plain
from lowering.result import JobResult, not_run

SCHEMA = 1
RUN = "run.json"
MEMORY_OF_A_JOB = 4 << 30  # what a job is expected to need when nothing is known of it


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

    def results(self) -> list[JobResult]:
        """A row for every job; one without a committed result is `not_run`."""
        return [JobResult.load(self.job_folder(job["id"])) or not_run(job["model"], job["variant"]) for job in self.data["jobs"]]


def begin(run: Run) -> Record:
    """Write the record of a run that is about to start, its jobs prepared; InfraError when the disk refuses."""
    started = datetime.now(UTC)
    config = files.dumps([run.config, [job.to_json() for job in run.jobs]])
    name = f"{started:%Y%m%dT%H%M%SZ}-{folder_name(run.suite)}-{hashlib.sha256(files.encode(config)).hexdigest()[:6]}"
    limits = worker.Limits(run.limits.stage_seconds, run.limits.memory_bytes)
    try:
        folder = _fresh(run.output.absolute() / "runs", name)
        for job in run.jobs:
            worker.prepare(job, folder / "jobs" / folder_name(job.id), limits, run.output.absolute() / "store" if run.cache else None)
        data = {
            "schema": SCHEMA,
            "run": folder.name,
            "suite": run.suite,
            "started": started.isoformat(timespec="seconds"),
            "overrides": list(run.overrides),
            "workers": run.cluster.workers or workers_here(len(run.jobs)),
            "cluster": plain(run.cluster),
            "limits": plain(limits),
            "jobs": [{"id": job.id, "model": job.model.name, "variant": job.variant} for job in run.jobs],
            "environment": environment.describe(),
            "command": sys.argv,
            "config": run.config,
        }
        files.write(folder / RUN, data)
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
    """How many jobs this machine bears at a time: no more than cores, nor than memory for each."""
    return max(1, min(len(os.sched_getaffinity(0)), environment.available_bytes() // MEMORY_OF_A_JOB, jobs))


def folder_name(text: str) -> str:
    """`text` as the name of a folder: what a shell or a file system would trip over becomes `_`, with a digest to stay distinct."""
    plainer = re.sub(r"[^A-Za-z0-9_.=,+-]", "_", text)[:120].lstrip(".")
    return plainer if plainer == text else f"{plainer}-{hashlib.sha256(files.encode(text)).hexdigest()[:6]}"


def _fresh(runs: Path, name: str) -> Path:
    """A new folder called `name`; a run of the same second and jobs gets a number."""
    runs.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        folder = runs / (name if number == 1 else f"{name}-{number}")
        with suppress(FileExistsError):
            folder.mkdir()
            return folder
        number += 1


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
