"""Flaky jobs: jobs whose outcome differs from that of an earlier run with the same key (the same job, code and tools)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from flows.runs.record import Record
from lowering import files
from lowering.record.result import UNJUDGED, JobResult

ENDINGS = "endings.json"  # a run's {job: [key, outcome, stage]}, with which later runs compare
EARLIER = 30  # number of earlier runs compared with


def find_flaky(run: Record, results: Sequence[JobResult]) -> dict[str, list[dict[str, str]]]:
    """Write endings.json, and return by job id the differing earlier endings (`run`, `outcome`, `stage`), newest first. Raises OSError."""
    keys = {name: row.get("key") for name, row in run.rows.items()}
    judged = {result.id: result for result in results if result.outcome not in UNJUDGED and keys[result.id]}
    files.write(run.folder / ENDINGS, {name: [keys[name], result.outcome, result.stage] for name, result in judged.items()})
    flaky: dict[str, list[dict[str, str]]] = {}
    for folder, endings in _read_earlier(run.folder):
        for name, (key, outcome, stage) in endings.items():
            result = judged.get(name)
            if result is not None and keys[name] == key and (outcome, stage if outcome != "ok" else "") != _get_end(result):
                flaky.setdefault(name, []).append({"run": folder.name, "outcome": outcome, "stage": stage})
    return dict(sorted(flaky.items()))


def _get_end(result: JobResult) -> tuple[str, str]:
    return result.outcome, "" if result.outcome == "ok" else result.stage


def _read_earlier(folder: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    others = folder.parent.glob(f"*/{ENDINGS}")
    before = sorted((other for other in others if other.parent.name < folder.name and not other.parent.is_symlink()), reverse=True)
    for file in before[:EARLIER]:
        try:
            yield file.parent, dict(files.read(file))
        except (OSError, ValueError):
            continue  # truncated, or of another version: skip it
