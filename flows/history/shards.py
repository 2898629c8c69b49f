"""Shards of a suite, read as one run: a comparison must not depend on which shard ran a job."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.output import REPORT
from flows.runs import shapes
from lowering.errors import ConfigError, Problem


def find_shards(folder: Path) -> list[Path]:
    """Return the folders of the runs in `folder`, or in the folders in it, as CI systems download the artifacts of several jobs."""
    files = (file for pattern in (f"*/{REPORT}", f"*/*/{REPORT}") for file in folder.glob(pattern))
    return sorted(file.parent for file in files if not file.parent.is_symlink())


def read(runs: Sequence[Path]) -> dict[str, Any]:
    """Return the report of a run, or of several with the jobs of all. Raises ConfigError if they are no shards of one suite."""
    first, *others = (shapes.read_report(run / REPORT) for run in runs)
    jobs = {job["id"]: job for job in first["jobs"]}
    for run, report in zip(runs[1:], others, strict=True):
        if report["suite"] != first["suite"]:
            cause = f"is a run of the suite {report['suite']}, and {runs[0]} one of {first['suite']}"
            raise ConfigError(Problem(str(run), cause, "compare the shards of one suite"))
        if twice := next((job["id"] for job in report["jobs"] if job["id"] in jobs), None):
            fix = "name a single run, or a folder with a run of each shard"
            raise ConfigError(Problem(str(run), f"has the job {twice}, as another of these runs has", fix))
        jobs |= {job["id"]: job for job in report["jobs"]}
    return {**first, "run": ", ".join(report["run"] for report in (first, *others)), "jobs": list(jobs.values())}
