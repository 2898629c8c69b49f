"""Finds the folder of one job of a finished run, from what a user types."""

from __future__ import annotations

import argparse
from pathlib import Path

from flows.command import arguments
from flows.command.main import run_folder
from flows.runs import record
from lowering.errors import ConfigError, Problem, near_miss
from lowering.record.folder import JOB

SHOWN = 8


def options(command: str, description: str) -> argparse.ArgumentParser:
    """A parser of commands about one job: JOB, --run, --output."""
    parser = argparse.ArgumentParser(prog=f"shapeline {command}", description=description)
    parser.add_argument("job", metavar="JOB", help="a job's id, a part of it that no other has, or its folder")
    parser.add_argument("--run", default="latest", help=arguments.NEWEST)
    arguments.output(parser)
    return parser


def folder(name: str, run: str, output: Path) -> Path:
    """The folder of the job `name` of `run`; ConfigError says which jobs there are when it is none or more than one."""
    if (Path(name) / JOB).is_file():
        return Path(name).resolve()
    found = record.load(run_folder(run, output))
    matches = [job for job in found.ids if job == name] or [job for job in found.ids if name.lower() in job.lower()]
    if len(matches) == 1:
        return found.job_folder(matches[0])
    if matches:
        raise ConfigError(Problem(name, f"is part of the ids of {len(matches)} jobs of run {found.data['run']}", f"one of {_listed(matches)}"))
    fix = near_miss(name, found.ids) or f"jobs: {_listed(found.ids)}"
    raise ConfigError(Problem(name, f"is no job of run {found.data['run']}, and no job's folder", fix))


def _listed(jobs: tuple[str, ...] | list[str]) -> str:
    return ", ".join(jobs[:SHOWN]) + (f" and {len(jobs) - SHOWN} more" if len(jobs) > SHOWN else "")
