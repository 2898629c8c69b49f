"""The order in which the jobs of a run start, and the resources each is expected to need, estimated from earlier runs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from flows.runs.record import Record
from lowering import clock
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


def _estimate_need(store: Store | None, job: str, gpu: bool, cap: int | None) -> Need:
    noted = (store.noted(STAGES, job) if store else None) or {}
    peaks = [stage["peak_rss_bytes"] for stage in noted.values() if stage["peak_rss_bytes"]]
    memory = int(max(peaks) * MARGIN) if peaks else UNKNOWN_BYTES
    seconds = sum(stage["seconds"] for stage in noted.values()) if noted else None
    return Need(seconds, min(memory, cap) if cap else memory, gpu)
