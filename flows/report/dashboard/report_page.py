"""The data of report.html: a row for every job, with its cluster and axes, the changes since earlier runs, and the views of some jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flows.report import axes, clusters
from flows.report.dashboard import page, views
from flows.report.exports import count_dims
from flows.runs.record import Record
from lowering import files
from lowering.record.result import OUTCOMES, JobResult

HTML = "report.html"
EMBEDDED = 2 << 20  # maximum bytes of views embedded in the page, failures first; the others load from the jobs' folders
LISTED = 60  # jobs listed under a blocker
SAID = 300  # maximum characters of a cause in a row


def write(run: Record, results: Sequence[JobResult], data: Mapping[str, Any], context: Mapping[str, Any] | None = None) -> Path:
    """Write report.html and the missing or outdated views of jobs. Return the path of report.html. Raises OSError.

    data: the data of report.json; context: the data from other runs.
    """
    for result in results:
        folder = run.job_folder(result.id)
        if folder.is_dir() and not views.is_fresh(folder):
            views.write(folder, result)
    text = page.render(f"{data['suite']} · {data['run']}", make_payload(run, results, data, context or {}), _choose_embedded(run, results))
    files.write_bytes(run.folder / HTML, files.encode(text))
    return run.folder / HTML


def make_payload(run: Record, results: Sequence[JobResult], data: Mapping[str, Any], context: Mapping[str, Any]) -> dict[str, Any]:
    """Return the data of the overview. `jobs` are rows with short keys, as `row` makes them."""
    stages = list(dict.fromkeys(stage.name for result in results for stage in result.stages))
    swept = axes.read(run)
    return {
        "kind": "run",
        "run": data["run"], "suite": data["suite"], "started": data["started"], "seconds": data["seconds"],
        "overrides": data["overrides"], "environment": data["environment"], "workers": run.workers,
        "limits": run.data.get("limits"),
        "outcomes": list(OUTCOMES),
        "blockers": [blocker | {name: [len(blocker[name]), blocker[name][:LISTED]] for name in ("blocks", "alone", "unlocks")}
                     for blocker in data.get("blockers", ())],
        "stages": stages,
        "jobs": [make_row(result, stages, run.job_folder(result.id).name, swept.get(result.id, {})) for result in results],
        **context,
    }  # fmt: skip


def make_row(result: JobResult, stages: Sequence[str], folder: str, swept: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of a job.

    t: its stages as [number of the stage, outcome, seconds, peak bytes, cache, ops]; k: failure signature; u: why it is unverified; y: the
    twin that was verified in its place.
    """
    where = {name: number for number, name in enumerate(stages)}
    first = str(result.problems[0]) if result.problems else ""
    return {
        "id": result.id, "m": result.model, "v": result.variant, "o": result.outcome, "e": str(result.expect), "x": result.as_expected,
        "g": result.stage, "u": result.unverified, "y": result.verified_on,
        "s": round(result.seconds, 3), "p": result.peak_rss_bytes, "w": len(result.warnings), "f": folder, "r": result.repro,
        "c": first[:SAID] + ("…" if len(first) > SAID else ""), "n": len(result.problems), "k": clusters.make_signature(result),
        "a": dict(swept), "d": count_dims({"symbols": result.symbols}),
        "t": [[where[stage.name], stage.outcome, round(stage.seconds, 3), stage.peak_rss_bytes, stage.cache, sum(stage.ops.values())]
              for stage in result.stages],
    }  # fmt: skip


def _choose_embedded(run: Record, results: Sequence[JobResult]) -> list[tuple[str, str]]:
    """Return (folder name, view) of as many jobs as the page may embed."""
    found, room = [], EMBEDDED
    for result in sorted(results, key=lambda result: result.as_expected):
        path = run.job_folder(result.id) / views.VIEW
        if files.measure_size(path) == 0 or files.measure_size(path) > room:
            continue
        if (view := views.read(path)) is not None:
            found.append((path.parent.name, page.to_script_json(view)))
            room -= files.measure_size(path)
    return found
