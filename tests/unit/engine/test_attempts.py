"""Jobs whose results are in the store: found by their notes, taken in batches, and left to their own task where one is missing."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from flows.config.document import Cluster, Limits
from flows.config.plan import Plan
from flows.config.run import Run
from flows.engine import attempts, dispatch, schedule, slots
from flows.engine.schedule import Need
from flows.runs.begin import begin
from flows.runs.record import Record
from lowering import clock, pipeline
from lowering.job import Job
from lowering.record.result import JobResult, build_not_run
from lowering.store import mirror
from lowering.store.entries import Store
from tests import toys

NEED = Need(None, 0, False)
HERE = slots.lay_out(Cluster())


def jobs(count: int) -> tuple[Job, ...]:
    return tuple(toys.job(name=f"toy{number}") for number in range(count))


@pytest.fixture
def run(tmp_path: Path) -> Record:
    """Six jobs; the store holds the results of all but the last two."""
    made = jobs(6)
    for job in made[:4]:
        (tmp_path / "before" / job.id).mkdir(parents=True)
        assert pipeline.run(job, tmp_path / "before" / job.id, store=tmp_path / "store").outcome == "ok"
    return begin(Run(Plan("toys", limits=Limits(retries=0), output=tmp_path), made))


def take(run: Record, deadline: float | None = None) -> dict[str, JobResult]:
    given = [attempts.prepare(run, job, NEED) for job in run.ids]
    return {result.model: result for result in attempts.take(given, HERE, deadline)}


@pytest.mark.parametrize("url", [None, "memory://held"])
def test_what_the_store_holds_is_known_without_reading_it(run: Record, url: str | None) -> None:
    if url is not None:
        mirror.mark_mirror(run.folder.parents[1], url)
    for path in (run.folder.parents[1] / "store" / "entries").rglob("entry.json"):
        path.unlink()
    assert attempts.find_held(run, run.ids, dict.fromkeys(run.ids, NEED), HERE) == list(run.ids[:4])


def test_what_is_taken_is_committed_whole(run: Record) -> None:
    taken = take(run)
    assert list(taken) == ["toy0", "toy1", "toy2", "toy3"]
    assert run.list_unfinished() == list(run.ids[4:])
    for job in run.ids[:4]:
        folder = run.job_folder(job)
        result = JobResult.load(folder)
        assert result is not None
        assert [stage.cache for stage in result.stages] == ["hit"] * 3
        assert (folder / "02-script.ts").read_text() == "toy from exported\n"
        assert (folder / "view.js").exists()
    assert take(run) == {}, "what has ended is left alone"


def test_what_is_gone_from_the_store_is_passed_over(run: Record) -> None:
    store = Store(run.folder.parents[1] / "store")
    for entry, _ in list(store.entries()):
        if entry.data["job"] == run.ids[1]:
            shutil.rmtree(entry.folder)
    assert list(take(run)) == ["toy0", "toy2", "toy3"]


def test_a_job_that_cannot_be_prepared_does_not_keep_the_others(run: Record) -> None:
    (run.job_folder(run.ids[0]) / "job.json").write_text("{")
    given = [attempts.prepare(run, job, NEED) for job in run.ids]
    shutil.rmtree(given[1].folder)
    assert attempts.find_held(run, run.ids, dict.fromkeys(run.ids, NEED), HERE) == list(run.ids[2:4])
    assert [result.model for result in attempts.take(given, HERE, None)] == ["toy2", "toy3"]


def test_nothing_is_taken_once_the_deadline_is_over(run: Record) -> None:
    assert take(run, deadline=time.time() - 1) == {}


def test_a_calendar_that_is_set_does_not_end_a_run(run: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    deadline = clock.now() + 60
    monkeypatch.setattr(time, "time", lambda: clock.now() + 1e6)
    assert list(take(run, deadline)) == ["toy0", "toy1", "toy2", "toy3"]


def test_an_attempt_that_ended_in_infra_before_is_remarked(run: Record) -> None:
    build_not_run("toy0", "default").save(run.job_folder(run.ids[0]))
    worker_died = JobResult(run.ids[1], "toy1", "default", "infra", stage="script")
    worker_died.save(run.job_folder(run.ids[1]))
    found = {name: "retried" in {remark.code for remark in result.warnings} for name, result in take(run).items()}
    assert found == {"toy0": False, "toy1": True, "toy2": False, "toy3": False}


def test_a_task_takes_many_and_what_it_cannot_take_gets_one_of_its_own(run: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "BATCH", 3)
    asked: list[tuple[str, ...]] = []

    def in_batches(batch: Sequence[tuple[str, Need]], number: int) -> None:
        asked.append((f"batch {number}", *(job for job, _ in batch)))
        whole = [attempts.prepare(run, job, need) for job, need in batch if job != run.ids[1]]  # one that its task does not get to
        assert len(list(attempts.take(whole, HERE, None))) == len(whole)

    def alone(job: str, need: Need, attempt: int) -> None:
        asked.append((f"attempt {attempt}", job))
        JobResult(job, job.partition("--")[0], "default", "ok").save(run.job_folder(job))

    wanted = set(run.ids)
    assert dispatch.lower(run, in_batches, alone, lambda futures: None, None, HERE) == 2 + 3
    batches, alone_asked = asked[:2], asked[2:]
    assert [len(batch) - 1 for batch in batches] == [3, 1]
    assert {job for batch in batches for job in batch[1:]} == set(run.ids[:4])
    assert alone_asked == [("attempt 1", run.ids[4]), ("attempt 1", run.ids[5]), ("attempt 1", run.ids[1])]
    assert {result.id for result in run.results() if result.outcome == "ok"} == wanted


def test_a_gpu_is_seen_where_one_would_be_given() -> None:
    here = slots.lay_out(Cluster(gpus=(3, 5), memory_bytes=1 << 30))
    for wants in (True, False):
        need = Need(None, 0, wants)
        with here.take(need) as given:
            assert here.list_variables(need) == given


def test_a_run_ends_by_the_clock_that_its_jobs_are_watched_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "time", lambda: clock.now() + 1e6)  # the calendar was set after the process began
    limited, free = (Record(tmp_path, {"patience": {"run_seconds": seconds}}) for seconds in (30.0, None))
    assert schedule.find_deadline(limited) == pytest.approx(clock.now() + 30.0, abs=1.0)
    assert schedule.find_deadline(free) is None
