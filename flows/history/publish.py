"""Files written when a run ends: report.json, report.md, report.html, changes.json, and the index of all runs."""

from __future__ import annotations

import shlex
import sqlite3
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flows.history import causes, changes, database, nights
from flows.history.causes import Cause
from flows.history.changes import Changes
from flows.output import REPORT, RUNS
from flows.report import report
from flows.report.clusters import ReportedCause, ReportedTicket
from flows.report.dashboard import page, report_page
from flows.runs import record, shapes
from flows.runs.record import Record
from lowering import files
from lowering.errors import ConfigError, InfraError, Problem, Untrusted
from lowering.plain import to_plain
from lowering.record.result import JobResult

CHANGES, INDEX, BASELINES = "changes.json", "index.html", "baselines.json"
NAMED = 6  # maximum number of jobs named in a command
SHOWN = 30  # number of runs in the trend of a run's page


def write(run: Record, seconds: float | None = None) -> Path:
    """Write the report of a run in all formats, with comparisons to earlier runs. Return the path of report.md.

    Raises OSError and InfraError, and ConfigError if run.json or the file of the causes is damaged.
    """
    shapes.check(shapes.Whole, run.data, run.folder / record.RUN)  # before the causes of earlier runs are updated to this one
    results = run.results()
    runs = run.folder.parent
    beside = runs.name == RUNS  # a run copied elsewhere has no other runs to compare with
    known, damage = _follow_causes(run, results) if beside else ({}, None)
    data = report.write_results(run, results, seconds, list(map(describe_cause, known.values())))
    context: dict[str, Any] = {"causes": data["causes"]}
    if beside:
        context |= _compare_with_others(run, runs, data)
    if failed := report.find_unexpected(results):
        context["again"] = _make_command(run, [result.id for result in failed])
    report_page.write(run, results, data, context)
    if damage:
        raise damage
    return run.folder / report.MARKDOWN


def _follow_causes(run: Record, results: Sequence[JobResult]) -> tuple[dict[str, Cause], ConfigError | None]:
    """Return the known causes of a run's failures, and the error that kept them from being read: the report is written without them."""
    try:
        return causes.follow(run, results), None
    except ConfigError as error:
        return {}, error


def describe_cause(cause: Cause) -> dict[str, Any]:
    """Return a cause as data of report.json."""
    ticket = ReportedTicket(cause.ticket.ref, cause.ticket.open) if cause.ticket else None
    return dict(to_plain(ReportedCause(cause.id, cause.signature, cause.notes, ticket)))


def _make_command(run: Record, failed: list[str]) -> str:
    """Return the command that reruns the failures, short enough to read."""
    if len(failed) <= NAMED or run.folder.parent.name != RUNS:
        return record.make_rerun_command(run, failed)
    output = str((run.data.get("config") or {}).get("output", "artifacts"))
    return shlex.join(["shapeline", "rerun-failed", run.folder.name, *(["--output", output] if output != "artifacts" else [])])


def _compare_with_others(run: Record, runs: Path, data: Mapping[str, Any]) -> dict[str, Any]:
    """Compare a run with the other runs, write changes.json and the index, and return the data for the run's page."""
    try:
        with database.open_database(runs) as known:
            found = compare_run(runs, run.folder.name, known)
            context = {
                **{name: change.to_json() for name, change in found.items()},
                "first_seen": database.find_first_seen(known, data["suite"]),
                "trend": database.read_trend(known, data["suite"], SHOWN, data["started"]),
            }
            write_index(runs, known)
    except sqlite3.Error as error:
        raise InfraError(
            Problem(str(runs / database.DATABASE), f"the history of runs cannot be written: {error}", "remove the file, or free disk space")
        ) from error
    files.write(run.folder / CHANGES, {name: change.to_json() for name, change in found.items()})
    return context


def compare_run(runs: Path, run: str, known: sqlite3.Connection) -> dict[str, Changes]:
    """Compare a run with the one before it (`previous`) and with its suite's pinned run (`baseline`), as far as they exist."""
    new = shapes.read_report(runs / run / REPORT)
    others = {"previous": database.find_previous(known, run), "baseline": read_baselines(runs).get(new["suite"])}
    past = database.read_earlier(known, run, changes.EARLIER)
    found = {}
    for name, other in others.items():
        if other and other != run and (old := _read_report(runs / other)):
            found[name] = changes.compare(old, new, past)
    return found


def read_baselines(runs: Path) -> dict[str, str]:
    """Return the pinned baseline run of each suite."""
    try:
        kept = files.read(runs / BASELINES)
    except (OSError, ValueError):
        return {}
    found = {str(suite): str(run) for suite, run in kept.items()} if isinstance(kept, Mapping) else {}
    for suite, run in found.items():
        if "/" in run:
            fix = "pin a run again, or remove the file"
            raise Untrusted(Problem(f"{runs / BASELINES} {suite}", f"{run!r} is not the name of a run", fix))
    return found


def pin(folder: Path) -> str:
    """Make a finished run the baseline of its suite, and return the suite. Raises OSError."""
    suite = str(shapes.read_report(folder / REPORT)["suite"])
    files.write(folder.parent / BASELINES, {**read_baselines(folder.parent), suite: folder.name})
    return suite


def write_index(runs: Path, known: sqlite3.Connection) -> None:
    """Write index.html, the overview of all runs of a folder. Raises OSError."""
    payload = {
        "kind": "index",
        "title": "Shapeline runs",
        "suite": "all runs",
        "runs": database.read_trend(known, limit=400),
        "nights": nights.read_nights(known),
        "models": nights.read_models(known),
        "columns": nights.COLUMNS,
    }
    files.write_bytes(runs / INDEX, files.encode(page.render("Shapeline runs", payload)))


def _read_report(folder: Path) -> dict[str, Any] | None:
    try:
        return shapes.read_report(folder / REPORT)
    except ConfigError:
        return None
