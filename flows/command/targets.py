"""Lookup of the folder of a finished run, or of one of its jobs, by a name from the command line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flows.output import REPORT, RUNS
from flows.runs import copies, joined, record
from flows.runs.record import Record
from lowering.errors import ConfigError, Problem, suggest
from lowering.record.folder import JOB, SIGNATURE
from lowering.record.joining import Joining

SHOWN = 8


def find_run(name: str, output: Path) -> Path:
    """Return the folder of a finished run, given its path, id, or `latest`. Raises ConfigError, listing the runs, if there is none."""
    copies.download_run(output, name)
    for folder in (output / RUNS / name, Path(name)):
        if (folder / REPORT).is_file():
            return folder.resolve()
    runs = sorted(file.parent.name for file in (output / RUNS).glob(f"*/{REPORT}") if not file.parent.is_symlink())
    fix = f"runs: {', '.join(runs[-5:])}" if runs else "make one with shapeline run"
    raise ConfigError(Problem(str(output / RUNS), f"has no report of a run '{name}'", fix))


def find_job(name: str, run: str, output: Path) -> Path:
    """Return the folder of the job `name` of `run`, or of the joined program of that name, `MODEL--VARIANT`.

    Raises ConfigError, listing the jobs, unless exactly one matches.
    """
    if any((Path(name) / file).is_file() for file in (JOB, SIGNATURE)):
        return Path(name).resolve()
    found = record.load(find_run(run, output))
    return joined.find(name, found) or found.job_folder(match_job(name, found))


def find_joined(name: str, run: str, output: Path) -> Path | None:
    """Return the folder of the joined program `name`, an id or a folder; None if there is none. Raises ConfigError as `find_run`."""
    if (Path(name) / SIGNATURE).is_file():
        return Path(name).resolve() if Joining.load(Path(name)) is not None else None
    return joined.find(name, record.load(find_run(run, output)))


def match_job(name: str, found: Record) -> str:
    """Return the id of the job `name`, its id or a part of it. Raises ConfigError, listing the jobs, unless exactly one matches."""
    matches = [job for job in found.ids if job == name] or [job for job in found.ids if name and name.lower() in job.lower()]
    if len(matches) == 1:
        return matches[0]
    if matches:
        cause = f"is part of the ids of {len(matches)} jobs of run {found.data['run']}"
        raise ConfigError(Problem(name, cause, f"name one of {_list_jobs(matches)}"))
    fix = suggest(name, found.ids) or f"jobs: {_list_jobs(found.ids)}"
    raise ConfigError(Problem(name or "JOB ''", f"is neither a job of run {found.data['run']} nor the folder of a job", fix))


def _list_jobs(jobs: Sequence[str]) -> str:
    return ", ".join(jobs[:SHOWN]) + (f" and {len(jobs) - SHOWN} more" if len(jobs) > SHOWN else "")
