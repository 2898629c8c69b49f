"""All that is written of a run when it ends: report.json, report.md, report.html, changes.json, and the index of all runs beside it."""

from __future__ import annotations

import shlex
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from flows.history import changes, database
from flows.history.changes import Changes
from flows.output import REPORT, RUNS
from flows.report import report
from flows.report.dashboard import page, report_page
from flows.runs import record
from flows.runs.record import Record
from lowering import files
from lowering.errors import InfraError, Problem

CHANGES, INDEX, BASELINES = "changes.json", "index.html", "baselines.json"
NAMED = 6  # jobs that a command names
SHOWN = 30  # runs in the trend of a run's page


def write(run: Record, seconds: float | None = None) -> Path:
    """Write the report of a run in all its forms, compared with the runs before; the path of report.md. Raises OSError and InfraError."""
    results = run.results()
    data = report.write_results(run, results, seconds)
    runs = run.folder.parent
    context: dict[str, Any] = {}
    if runs.name == RUNS:  # a run that was copied elsewhere stands alone
        context = _with_the_others(run, runs, data)
    if failed := report.unexpected(results):
        context["again"] = _again(run, [result.id for result in failed])
    report_page.write(run, results, data, context)
    return run.folder / report.MARKDOWN


def _again(run: Record, failed: list[str]) -> str:
    """The command that runs the failures again, short enough to be read."""
    if len(failed) <= NAMED or run.folder.parent.name != RUNS:
        return record.again(run, failed)
    output = str((run.data.get("config") or {}).get("output", "artifacts"))
    return shlex.join(["shapeline", "rerun-failed", run.folder.name, *(["--output", output] if output != "artifacts" else [])])


def _with_the_others(run: Record, runs: Path, data: Mapping[str, Any]) -> dict[str, Any]:
    """What the other runs say about this one, for its page; changes.json and the index are written by the way."""
    try:
        with database.opened(runs) as known:
            found = compared(runs, run.folder.name, known)
            context = {
                **{name: told.to_json() for name, told in found.items()},
                "first_seen": database.first_seen(known, data["suite"]),
                "trend": database.trend(known, data["suite"], SHOWN, data["started"]),
            }
            write_index(runs, known)
    except sqlite3.Error as error:
        raise InfraError(
            Problem(str(runs / database.DATABASE), f"the history of runs cannot be kept: {error}", "remove the file, or free the disk")
        ) from error
    files.write(run.folder / CHANGES, {name: told.to_json() for name, told in found.items()})
    return context


def compared(runs: Path, run: str, known: sqlite3.Connection) -> dict[str, Changes]:
    """The comparisons of a run with the one before it (`previous`) and with its suite's pinned one (`baseline`), where there are such."""
    new = files.read(runs / run / REPORT)
    others = {"previous": database.previous(known, run), "baseline": baselines(runs).get(new["suite"])}
    past = database.earlier(known, run, changes.EARLIER)
    found = {}
    for name, other in others.items():
        if other and other != run and (old := _report(runs / other)):
            found[name] = changes.compare(old, new, past)
    return found


def baselines(runs: Path) -> dict[str, str]:
    """Suite -> the run that is pinned as its baseline."""
    try:
        told = files.read(runs / BASELINES)
    except (OSError, ValueError):
        return {}
    return {str(suite): str(run) for suite, run in told.items()} if isinstance(told, Mapping) else {}


def pin(folder: Path) -> str:
    """Make a finished run the baseline of its suite; the suite. Raises OSError."""
    suite = str(files.read(folder / REPORT)["suite"])
    files.write(folder.parent / BASELINES, {**baselines(folder.parent), suite: folder.name})
    return suite


def write_index(runs: Path, known: sqlite3.Connection) -> None:
    """Write index.html over all runs of a folder. Raises OSError."""
    payload = {
        "kind": "index",
        "title": "Shapeline runs",
        "suite": "all runs",
        "runs": database.trend(known, limit=400),
        "models": database.models(known),
    }
    files.write_bytes(runs / INDEX, files.encode(page.text("Shapeline runs", payload)))


def _report(folder: Path) -> dict[str, Any] | None:
    try:
        return dict(files.read(folder / REPORT))
    except (OSError, ValueError):
        return None
