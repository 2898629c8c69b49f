"""The joined programs of a run: one for the entries of a model and variant, in a folder beside those of its jobs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.runs.record import Record
from lowering import files
from lowering.record.folder import JOB
from lowering.record.joining import Joining


def group(run: Record) -> dict[str, dict[str, str]]:
    """Return the jobs of each model and variant with several entries in the run: `MODEL--VARIANT` -> entry -> id of the job."""
    found: dict[str, dict[str, str]] = {}
    for job in run.ids:
        entry = _read_entry(run.job_folder(job)) if ":" in job else None
        if entry and job.endswith(f":{entry}"):
            found.setdefault(job.removesuffix(f":{entry}"), {})[entry] = job
    return {name: jobs for name, jobs in found.items() if len(jobs) > 1}


def load_all(run: Record) -> list[Joining]:
    """Return the records of the joined programs of a run."""
    names = {job.rpartition(":")[0]: None for job in run.ids if ":" in job}
    return [found for name in names if (found := Joining.load(run.job_folder(name))) is not None and found.id == name]


def find(name: str, run: Record) -> Path | None:
    """Return the folder of the joined program `name`, or None if the run has no such program."""
    return next((run.job_folder(one.id) for one in load_all(run) if one.id == name), None)


def _read_entry(folder: Path) -> str | None:
    """Return the entry of the job in `folder`; None also if it runs in an environment of its own, whose IR this one may not read."""
    try:
        job: Mapping[str, Any] = files.read(folder / JOB)
        entry = None if job.get("environment") else job["model"].get("entry")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return entry if isinstance(entry, str) else None
