"""Removal of old runs by count, age and size. The IR of old green runs is removed first."""

from __future__ import annotations

import math
import shutil
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from flows.output import REPORT
from flows.report import levels
from flows.report.dashboard import views
from flows.runs import calendars, record, shapes
from lowering import clock
from lowering.errors import ConfigError
from lowering.store.entries import DAY

BULK = (".pt", ".pt2", ".safetensors", ".stablehlo", ".mlirbc")  # files that a stage writes besides its text


@dataclass(frozen=True)
class Keep:
    """Limits for the runs that are kept; None: no limit. runs, days: of each suite. bytes: of all runs together.

    ir_runs: number of green runs of each suite whose IR is kept.
    """

    ir_runs: int | None = None
    runs: int | None = None
    days: float | None = None
    bytes: int | None = None


@dataclass(frozen=True)
class Removal:
    """The removal of a whole run, or of its IR only. size: bytes freed; why: the limit that requires it."""

    folder: Path
    whole: bool
    size: int
    why: str


@dataclass(frozen=True)
class _Kept:
    folder: Path
    suite: str
    started: datetime
    green: bool
    size: int
    ir_size: int


def plan(runs: Path, keep: Keep, pinned: Collection[str] = (), now: datetime | None = None) -> list[Removal]:
    """Return the removals that `keep` requires, oldest first.

    Pinned runs and the newest run of each suite are kept, and runs in progress, which have no report yet or hold their lock.
    """
    known = calendars.read_all(runs) if now is None else [now.timestamp()]
    ages = {run: clock.measure_age(run.started.timestamp(), known) for run in _find_finished(runs)}
    # one that is dated in the future is from before the clock was set back
    found = sorted(ages, key=lambda run: (-math.inf if (age := ages[run]) is None else -age, run.folder.name))
    newest = {run.suite: run.folder.name for run in found}
    free = [run for run in found if run.folder.name not in pinned and newest[run.suite] != run.folder.name]
    later = {run: sum(other.suite == run.suite for other in found[place + 1 :]) for place, run in enumerate(found)}
    whole: dict[Path, Removal] = {}
    for run in free:
        if keep.runs is not None and later[run] >= keep.runs:
            whole[run.folder] = Removal(run.folder, True, run.size, f"more than {keep.runs} runs of {run.suite}")
        elif keep.days is not None and (ages[run] or 0.0) > keep.days * DAY:
            whole[run.folder] = Removal(run.folder, True, run.size, f"older than {keep.days:g} days")
    rest = [run for run in free if run.folder not in whole]
    ir: dict[Path, Removal] = {}
    for run in rest:
        if keep.ir_runs is not None and later[run] >= keep.ir_runs and run.green and run.ir_size:
            ir[run.folder] = Removal(run.folder, False, run.ir_size, f"IR of more than {keep.ir_runs} green runs of {run.suite}")
    if keep.bytes is not None:
        left = sum(run.size for run in found) - sum(removal.size for removal in (*whole.values(), *ir.values()))
        _fit_size(left, keep.bytes, rest, whole, ir)
    return [*whole.values(), *(removal for removal in ir.values() if removal.folder not in whole)]


def apply(removals: Sequence[Removal]) -> None:
    """Carry out removals. A whole run is renamed first, so that no reader finds half of it. Raises OSError."""
    for removal in removals:
        if record.is_running(removal.folder):  # continued since it was planned
            continue
        if removal.whole:
            gone = removal.folder.rename(removal.folder.with_name(f".removed-{removal.folder.name}"))
            shutil.rmtree(gone)
        else:
            for path in _find_ir_files(removal.folder):
                path.unlink(missing_ok=True)


def _fit_size(left: int, limit: int, rest: Sequence[_Kept], whole: dict[Path, Removal], ir: dict[Path, Removal]) -> None:
    """Add removals until the runs fit `limit`: the IR of green runs first, then whole runs, each oldest first."""
    why = f"more than {limit:,} bytes in total"
    for run in rest:
        if left > limit and run.green and run.ir_size and run.folder not in ir:
            ir[run.folder] = Removal(run.folder, False, run.ir_size, why)
            left -= run.ir_size
    for run in rest:
        if left > limit:
            whole[run.folder] = Removal(run.folder, True, run.size, why)
            left -= run.size - (ir[run.folder].size if run.folder in ir else 0)


def _find_finished(runs: Path) -> Iterator[_Kept]:
    for path in runs.glob(f"*/{REPORT}"):
        folder = path.parent
        if folder.is_symlink() or record.is_running(folder):
            continue
        try:
            data = shapes.read_report(path)
            yield _Kept(
                folder,
                data["suite"],
                datetime.fromisoformat(data["started"]),
                bool(data["as_expected"]),
                sum(file.lstat().st_size for file in folder.rglob("*") if file.is_file()),
                sum(file.stat().st_size for file in _find_ir_files(folder)),
            )
        except (OSError, ConfigError):
            continue  # not a run of this version: do not remove it


def _find_ir_files(folder: Path) -> list[Path]:
    """Return the IR files of a run, their binary forms and their packed views. Their metadata is kept in report.json and levels.json."""
    found = []
    jobs = folder / "jobs"
    for job in () if jobs.is_symlink() else jobs.glob("*/"):
        if job.is_symlink():  # what it points to is not the run's
            continue
        found += levels.list_files(job)
        found += [path for path in job.iterdir() if path.name == views.VIEW or (path.suffix in BULK and path.is_file())]
    return found
