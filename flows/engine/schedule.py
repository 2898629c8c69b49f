"""In which order the jobs of a run start, and what each is expected to need, from what they took before."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from flows.runs.record import Record
from lowering.store.entries import Store
from lowering.store.reuse import STAGES

UNKNOWN_BYTES = 4 << 30  # what a job is expected to need when nothing is known of it
MARGIN = 1.15  # over the highest resident size seen


@dataclass(frozen=True)
class Need:
    """What a job is expected to take: seconds (None: nothing is known), bytes of memory, and whether it wants a GPU."""

    seconds: float | None
    memory_bytes: int
    gpu: bool


def needs(run: Record) -> dict[str, Need]:
    """What every job is expected to need; a memory cap bounds what nothing is known of."""
    store = Store(run.store) if run.store else None
    cap = run.data["limits"].get("memory_bytes")
    return {job["id"]: _need(store, job["id"], bool(job.get("gpu")), cap) for job in run.data["jobs"]}


def longest_first(jobs: Iterable[str], needed: dict[str, Need]) -> list[str]:
    """The jobs nothing is known of before all others, as one of them may be the longest; then by falling seconds."""
    def urgency(job: str) -> float:
        seconds = needed[job].seconds
        return float("-inf") if seconds is None else -seconds

    return sorted(jobs, key=urgency)


def _need(store: Store | None, job: str, gpu: bool, cap: int | None) -> Need:
    noted = (store.noted(STAGES, job) if store else None) or {}
    peaks = [stage["peak_rss_bytes"] for stage in noted.values() if stage["peak_rss_bytes"]]
    memory = int(max(peaks) * MARGIN) if peaks else UNKNOWN_BYTES
    seconds = sum(stage["seconds"] for stage in noted.values()) if noted else None
    return Need(seconds, min(memory, cap) if cap else memory, gpu)
