"""The order in which the jobs of a run start, and the resources each is expected to need, estimated from earlier runs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from flows.runs.record import Record
from lowering import clock, files
from lowering.record.folder import JOB
from lowering.sizes.ranges import Range
from lowering.store.entries import Store
from lowering.store.reuse import STAGES

UNKNOWN_BYTES = 4 << 30  # expected memory of a job that never ran
MARGIN = 1.15  # factor over the highest resident size measured


@dataclass(frozen=True)
class Need:
    """The resources that a job is expected to need: seconds (None: unknown), bytes of memory, and whether it needs a GPU."""

    seconds: float | None
    memory_bytes: int
    gpu: bool


def find_deadline(run: Record) -> float | None:
    """Return when a run that starts to lower now has to end, by `lowering.clock`; None if its time is not limited."""
    seconds = run.data["patience"]["run_seconds"]
    return clock.now() + seconds if seconds else None


def estimate_needs(run: Record) -> dict[str, Need]:
    """Return the expected need of every job, by id. The job's memory limit, if set, bounds the estimate."""
    store = Store(run.store) if run.store else None
    cap = run.data["limits"].get("memory_bytes")
    return {job["id"]: _estimate_need(store, job["id"], bool(job.get("gpu")), cap) for job in run.data["jobs"]}


def sort_longest_first(jobs: Iterable[str], needed: dict[str, Need]) -> list[str]:
    """Sort jobs by descending seconds. Jobs of unknown length come first, as one of them may be the longest."""
    def urgency(job: str) -> float:
        seconds = needed[job].seconds
        return float("-inf") if seconds is None else -seconds

    return sorted(jobs, key=urgency)


def sort_widest_first(jobs: Sequence[str], run: Record) -> list[str]:
    """Sort jobs so that, of those that differ in the ranges of their model only, the one that contains the ranges of others comes first.

    The others can take its export from the store. Otherwise the order stays.
    """
    declared: dict[str, Any] = {}
    for job in jobs:
        with suppress(OSError, ValueError):  # the job's own process reports it
            declared[job] = files.read(run.job_folder(job) / JOB)
    families: dict[str, list[str]] = {}
    for job in declared:
        families.setdefault(_name_family(declared[job]), []).append(job)
    first = {job for family in families.values() for job in family
             if any(_contains(declared[job], declared[other]) for other in family)
             and not any(_contains(declared[other], declared[job]) for other in family)}
    return sorted(jobs, key=lambda job: job not in first)


def _name_family(job: Mapping[str, Any]) -> str:
    """Return a text that is equal for jobs whose first stages differ in the ranges of the model only."""
    symbols = {name: {key: value for key, value in symbol.items() if key not in ("min", "max")}
               for name, symbol in job["model"]["symbols"].items()}
    return json.dumps([{**job["model"], "symbols": symbols}, next(iter(job["stages"].items()), None)], sort_keys=True, default=repr)


def _contains(wide: Mapping[str, Any], narrow: Mapping[str, Any]) -> bool:
    """Return whether the ranges of one job contain those of another one, and are not equal."""
    pairs = [(_read_range(wide["model"]["symbols"][name]), _read_range(symbol)) for name, symbol in narrow["model"]["symbols"].items()]
    return all(inner.within(outer) for outer, inner in pairs) and any(outer != inner for outer, inner in pairs)


def _read_range(symbol: Mapping[str, Any]) -> Range:
    return Range(symbol.get("min"), symbol.get("max"))


def _estimate_need(store: Store | None, job: str, gpu: bool, cap: int | None) -> Need:
    noted = (store.notes.read(STAGES, job) if store else None) or {}
    peaks = [stage["peak_rss_bytes"] for stage in noted.values() if stage["peak_rss_bytes"]]
    memory = int(max(peaks) * MARGIN) if peaks else UNKNOWN_BYTES
    seconds = sum(stage["seconds"] for stage in noted.values()) if noted else None
    return Need(seconds, min(memory, cap) if cap else memory, gpu)
