"""Dispatch of a run's jobs.

Jobs in the store are taken in batches, the others run one by one. Jobs that ended in `infra` are retried after a pause, until the deadline.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from flows.engine import ahead, attempts, schedule
from flows.engine.schedule import Need
from flows.engine.slots import Slots
from flows.runs.record import Record
from lowering import clock
from lowering.errors import Problem
from lowering.record.result import JobResult
from lowering.worker import client, watch

GROWTH = 4.0  # factor of the pause from one attempt to the next
BATCH = 50  # jobs that one task takes from the store: one task per job would cost the server more than everything else
Take = Callable[[Sequence[tuple[str, Need]], int], Any]
Submit = Callable[[str, Need, int], Any]
Wait = Callable[[list[Any]], Any]


def lower(run: Record, take: Take, submit: Submit, wait: Wait, deadline: float | None, here: Slots) -> int:
    """Submit every unfinished job of `run`, those that others need and long ones first, and wait. All jobs have a result then.

    Return the number of tasks submitted.

    take: starts taking a batch of jobs from the store, ([(id, need), …], number of the batch) -> future. submit: starts one attempt at a
    job, (id, need, attempt) -> future. wait: waits until futures are done, however they end. here: the slots of the flow's machine.
    """
    patience = run.data["patience"]
    needed = schedule.estimate_needs(run)
    unfinished = set(run.list_unfinished())
    todo = schedule.sort_longest_first([job for job in run.ids if job in unfinished or ahead.is_started(run.job_folder(job))], needed)
    todo = schedule.sort_widest_first(todo, run)
    held = attempts.find_held(run, [job for job in todo if not ahead.is_started(run.job_folder(job))], needed, here)
    batches = [take([(job, needed[job]) for job in held[first : first + BATCH]], number)
               for number, first in enumerate(range(0, len(held), BATCH), 1)]
    submitted, waiting = len(batches), set(held)
    for attempt in range(1, patience["retries"] + 2):
        futures = [submit(job, needed[job], attempt) for job in todo if job not in waiting]
        if waiting:
            wait(batches)
            futures += [submit(job, needed[job], attempt) for job in run.list_unfinished() if job in waiting]
            waiting = set()
        submitted += len(futures)
        wait(futures)
        todo = [job for job in run.list_unfinished() if job in todo]
        pause = patience["retry_seconds"] * GROWTH ** (attempt - 1)
        if not todo or attempt > patience["retries"] or not _wait_for_retry(pause, deadline):
            break
    for job in todo:
        if JobResult.load(run.job_folder(job)) is None:
            _record_lost(run, job, deadline)
    return submitted


def _wait_for_retry(seconds: float, deadline: float | None) -> bool:
    """Sleep until the next attempt and return True; return False at once if the deadline comes first or the run is stopped."""
    end = clock.now() + seconds
    if client.is_stopped() or (deadline is not None and end >= deadline):
        return False
    while clock.now() < end:
        if client.is_stopped():
            return False
        time.sleep(min(0.1, seconds))
    return True


def _record_lost(run: Record, job: str, deadline: float | None) -> None:
    """Record the outcome of a job that has no result after all attempts."""
    late = deadline is not None and clock.now() >= deadline
    cause = "was lost before it wrote a result" if not late else "had not started the job when the run's deadline passed"
    problem = Problem("worker", cause, "see the log of the cluster" if not late else "raise limits.run_seconds")
    watch.save_lost(run.job_folder(job), "not_run" if late else "infra", problem)
