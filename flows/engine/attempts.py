"""Steps before and after one attempt at a job, on any machine, and the replay of jobs whose results are all in the store."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flows.engine import slots, workers
from flows.engine.schedule import Need
from flows.engine.slots import Slots
from flows.report import report
from flows.report.dashboard import views
from flows.runs import copies
from flows.runs.record import Record
from lowering import clock, files
from lowering.errors import InfraError, Problem, ShapelineError
from lowering.record.folder import JOB, find_store
from lowering.record.result import UNJUDGED, JobResult, Remark, add_remark
from lowering.store import mirror, reuse
from lowering.store.entries import Store
from lowering.worker import client, replay

LOOKS = 8  # concurrent reads of the notes of a store at a URL: each takes long


@dataclass(frozen=True)
class Prepared:
    """A job as its task receives it.

    need: the resources it waits for on the flow's machine; digest: of its job.json; url: the original, if its folder is a copy.
    """

    folder: str
    need: Need
    digest: str = ""
    url: str | None = None


def prepare(run: Record, job: str, need: Need) -> Prepared:
    folder = run.job_folder(job)
    return Prepared(str(folder), need, _compute_digest(folder), mirror.find_url(folder))


def check_job(place: Path, digest: str) -> list[Problem]:
    """Return a problem if the job.json in `place` is not the one that the flow prepared: others may be able to write there."""
    if _compute_digest(place) == digest:
        return []
    return [Problem(str(place / JOB), "is not the file that the run prepared", "find out who writes to the output, and run the job again")]


def _compute_digest(folder: Path) -> str:
    try:
        with files.open_regular(folder / JOB) as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return ""


def load_ended(place: Path) -> JobResult | None:
    """Return the result of an earlier attempt, if it has a verdict on the job."""
    found = JobResult.load(place)
    return found if found is not None and found.outcome not in UNJUDGED else None


def check_worker(place: Path, environment: Mapping[str, Any]) -> list[Problem]:
    """Return the problems that forbid this cluster worker to take the job in `place`. environment: the run's."""
    return workers.check_worker(environment, place, find_store(files.read(place / JOB), place))


def conclude(place: Path, before: JobResult | None, result: JobResult, url: str | None) -> JobResult:
    """Finish an attempt: write the job's view and upload its files to `url`. Return `result` with its final remarks.

    before: the result of the previous attempt; a remark is added if it ended in infra.
    """
    if before is not None and before.outcome == InfraError.outcome:
        result = add_remark(result, Remark("retried", f"an earlier attempt ended in infra: {report.describe_cause(before)}",
                                           stage=before.stage))
        with suppress(OSError):
            result.save(place)
    with suppress(OSError):  # the report writes missing views, and reports it if the disk refuses
        views.write(place, result)
    try:
        copies.upload_job(place)
    except OSError as error:
        result = add_remark(result, Remark("output", f"its files could not be uploaded to {url}: {error}", stage=result.stage))
        with suppress(OSError):
            result.save(place)
    return result


def find_held(run: Record, jobs: Sequence[str], needed: Mapping[str, Need], here: Slots) -> list[str]:
    """Return the `jobs` that ended well before, according to the notes of the run's store.

    Does not check that the store still has all of their results.
    """
    if run.store is None:
        return []
    store = Store(run.store)

    def is_known(job: str) -> bool:
        try:
            return bool(reuse.read_keys(store, files.read(run.job_folder(job) / JOB), here.list_variables(needed[job])))
        except (OSError, ValueError):  # the job's own attempt will report the error
            return False

    if mirror.find_url(run.store) is None:
        return [job for job in jobs if is_known(job)]
    with ThreadPoolExecutor(LOOKS) as pool:
        return [job for job, found in zip(jobs, pool.map(is_known, jobs), strict=True) if found]


def take(jobs: Sequence[Prepared], where: Slots | Mapping[str, Any], deadline: float | None) -> Iterator[JobResult]:
    """Commit and yield the results of the `jobs` that are completely in the store, one by one; skip the others.

    where: the slots of the flow's machine, or on a cluster worker the run's environment. deadline: of the run, by `lowering.clock`.
    """
    for job in jobs:
        if client.is_stopped() or (deadline is not None and clock.now() >= deadline):
            return
        with suppress(OSError, ValueError, ShapelineError):  # the job's own attempt will report the error
            if (result := _take_job(job, where)) is not None:
                yield result


def _take_job(job: Prepared, where: Slots | Mapping[str, Any]) -> JobResult | None:
    place = copies.locate_job(job.folder, job.url)
    if load_ended(place) is not None or check_job(place, job.digest) or (not isinstance(where, Slots) and check_worker(place, where)):
        return None
    before = JobResult.load(place)
    with nullcontext(where.list_variables(job.need)) if isinstance(where, Slots) else slots.use_assigned() as variables:
        result = replay.replay(place, files.read(place / JOB), variables)
    return None if result is None else conclude(place, before, result, job.url)
