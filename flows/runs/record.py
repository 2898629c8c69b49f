"""Read the folder of a run: `runs/<run-id>/` with run.json and one folder per job."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from lowering import files
from lowering.errors import InfraError, Problem
from lowering.plain import structured
from lowering.record.result import UNJUDGED, Expectation, JobResult, not_run

SCHEMA = 1
RUN = "run.json"


@dataclass(frozen=True)
class Record:
    """A run as its folder describes it. workers: jobs at a time; ids: the jobs in order.

    lock: the open file by which this process holds the run; None for a run that is only read.
    """

    folder: Path
    data: dict[str, Any]
    lock: int | None = field(default=None, compare=False, repr=False)

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
        return [job for job, result in results.items() if result is None or result.outcome in UNJUDGED]

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


def load(folder: Path) -> Record:
    """The record in `folder`; InfraError when it is none."""
    try:
        data = files.read(folder / RUN)
    except (OSError, ValueError) as error:
        raise InfraError(Problem(str(folder), f"is not the folder of a run: {error}", "name one of artifacts/runs/")) from error
    if data.get("schema") != SCHEMA:
        raise InfraError(Problem(str(folder / RUN), f"has schema {data.get('schema')}, this version reads {SCHEMA}"))
    return Record(folder, data)


def folder_name(text: str) -> str:
    """`text` as the name of a folder: what a shell or a file system would trip over becomes `_`, with a digest to stay distinct."""
    plainer = re.sub(r"[^A-Za-z0-9_.=,+-]", "_", text)[:120].lstrip(".")
    return plainer if plainer == text else f"{plainer}-{hashlib.sha256(files.encode(text)).hexdigest()[:6]}"


def again(record: Record, jobs: Sequence[str]) -> str:
    """The command that runs `jobs` of this run again."""
    if len(jobs) == len(record.ids):
        return shlex.join(["shapeline", "run", *record.data["overrides"]])
    overrides = [override for override in record.data["overrides"] if not override.startswith("select=")]
    return shlex.join(["shapeline", "run", *overrides, "-k", " or ".join(jobs)])
