"""The record of a run, read from its folder `runs/<run-id>/` with run.json and one folder per job."""

from __future__ import annotations

import fcntl
import hashlib
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from flows.runs import shapes
from lowering import files, trust
from lowering.errors import ConfigError, InfraError, Problem
from lowering.plain import from_plain
from lowering.record.folder import MANIFEST
from lowering.record.result import UNJUDGED, Expectation, JobResult, build_not_run, explain_unreadable

SCHEMA = 1
RUN, LOCK = "run.json", ".lock"


@dataclass(frozen=True)
class Record:
    """A run as its folder describes it. workers: number of concurrent jobs; ids: the jobs in order.

    lock: the open file with which this process locks the run; None for a run that is only read.
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
        return self.folder / "jobs" / make_folder_name(job)

    @property
    def store(self) -> Path | None:
        """The store of stage results that the run's jobs use: the one beside the runs, if the record is of somebody else."""
        if not self.data.get("store"):
            return None
        return (self.folder / self.data["store"]).resolve() if is_own(self) else self.folder.resolve().parents[1] / "store"

    def list_unfinished(self) -> list[str]:
        """Return the jobs without a result, or with one that has no verdict on the model."""
        results = {job: JobResult.load(self.job_folder(job)) for job in self.ids}
        return [job for job, result in results.items() if result is None or result.outcome in UNJUDGED]

    def results(self) -> list[JobResult]:
        """Return a result for every job; `not_run` for a job without a committed result."""
        return [self.result(job["id"]) or self._build_missing(job) for job in self.data["jobs"]]

    def _build_missing(self, job: Mapping[str, Any]) -> JobResult:
        why = explain_unreadable(self.job_folder(job["id"]))
        missing = build_not_run(job["model"], job["variant"], f"{MANIFEST} {why}") if why else build_not_run(job["model"], job["variant"])
        return replace(missing, expect=self.expectation(job["id"]))

    def result(self, job: str) -> JobResult | None:
        """Return the committed result of a job, with its expectation; None if there is no result yet, or it is of another job."""
        found = JobResult.load(self.job_folder(job))
        return None if found is None or found.id != job else replace(found, expect=self.expectation(job))

    def expectation(self, job: str) -> Expectation:
        return from_plain(Expectation, self.rows[job].get("expect") or {})

    @cached_property
    def rows(self) -> dict[str, dict[str, Any]]:
        """The jobs of run.json by id, with their `axes`, `expect`, and `key`, which is equal if job, code and tools are."""
        return {job["id"]: job for job in self.data["jobs"]}


def load(folder: Path) -> Record:
    """Load the record in `folder`.

    Raises ConfigError if it is not the folder of a run, or its run.json is damaged, and InfraError if that cannot be read.
    """
    try:
        data = files.read(folder / RUN)
    except (FileNotFoundError, NotADirectoryError) as error:
        cause = f"is not the folder of a run: it has no {RUN}"
        raise ConfigError(Problem(str(folder), cause, "name a folder in artifacts/runs/")) from error
    except (OSError, ValueError) as error:
        raise InfraError(Problem(str(folder), f"is not the folder of a run: {error}", "name a folder in artifacts/runs/")) from error
    if not isinstance(data, dict) or data.get("schema") != SCHEMA:
        found = data.get("schema") if isinstance(data, dict) else data
        raise InfraError(Problem(str(folder / RUN), f"has schema {found!r:.80}, but this version reads schema {SCHEMA}"))
    shapes.check(shapes.Run, data, folder / RUN)
    run = Record(folder, data)
    # A folder of a job, or of the joined program of a model's entries, that is a link would lead commands out of the run's folder.
    for name in dict.fromkeys((*run.ids, *(job.rpartition(":")[0] for job in run.ids if ":" in job))):
        trust.locate_inside(folder, f"jobs/{make_folder_name(name)}", f"{folder / RUN} jobs")
    return run


def is_own(run: Record) -> bool:
    """Return whether this user made the run on this machine."""
    return trust.is_own(run.data, RUN)


def is_running(folder: Path) -> bool:
    """Return whether a process works on the run in `folder`: one that holds its lock, which ends with the process."""
    try:
        with files.open_regular(folder / LOCK) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # the run was never locked, or the file system has no locks
        return False
    return False


def make_folder_name(text: str) -> str:
    """Return `text` as the name of a folder. Characters special to shells or file systems become `_`, and a digest keeps names distinct."""
    plainer = re.sub(r"[^A-Za-z0-9_.=,+-]", "_", text)[:120].lstrip(".")
    return plainer if plainer == text else f"{plainer}-{hashlib.sha256(files.encode(text)).hexdigest()[:6]}"


def make_rerun_command(record: Record, jobs: Sequence[str]) -> str:
    """Return the command that reruns `jobs` of this run."""
    if len(jobs) == len(record.ids):
        return shlex.join(["shapeline", "run", *record.data["overrides"]])
    overrides = [override for override in record.data["overrides"] if not override.startswith("select=")]
    return shlex.join(["shapeline", "run", *overrides, "-k", " or ".join(jobs)])
