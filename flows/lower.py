"""The flow that lowers a suite: one Prefect task per job, each in its own child process. Results in the store are taken in batches."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flows.engine import access, server

access.use_password(os.environ.get("PREFECT_API_URL"))
server.configure()

from prefect import flow, get_run_logger, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.futures import wait
from prefect.states import Completed, Failed

from flows.config import run as config
from flows.config.document import Cluster
from flows.config.run import Run
from flows.engine import ahead, attempts, dispatch, managed, pages, prefect_artifacts, revival, runners, schedule, server_clock, slots
from flows.engine.attempts import Prepared
from flows.engine.interrupts import Stop
from flows.engine.revival import ServerLost
from flows.engine.schedule import Need
from flows.engine.slots import Slots
from flows.report import report
from flows.runs import begin, copies, record
from flows.runs.record import Record
from lowering.errors import InfraError, Problem, ShapelineError
from lowering.plain import from_plain, to_plain
from lowering.record.folder import Limits
from lowering.record.result import JobResult
from lowering.worker import client, watch

READING = Need(None, 0, False)  # of a task that only reads results from the store


@task(name="lower", cache_policy=NO_CACHE)
def lower_job(prepared: dict[str, Any], limits: dict[str, Any], where: Slots | dict[str, Any]) -> State[Any]:
    """Lower a `Prepared` job, given as plain data, and return a state with its outcome.

    The full result is in the job's folder.
    where: the slots of the flow's machine, or the run's environment, which a cluster worker must match.
    """
    if client.is_stopped():
        return Failed(message="not_run: the run was interrupted")
    job = from_plain(Prepared, prepared)
    place = copies.locate_job(job.folder, job.url)
    early = ahead.is_started(place)
    if not early and (ended := attempts.load_ended(place)) is not None:
        return Completed(message=f"{ended.outcome}: ended in an earlier attempt")
    before = None if early else JobResult.load(place)
    if changed := attempts.check_job(place, job.digest):
        result = watch.save_lost(place, "error", *changed)
    elif not isinstance(where, Slots) and (found := attempts.check_worker(place, where)):
        result = watch.save_lost(place, InfraError.outcome, *found)
    else:
        result = _lower(place, job.need, limits, where)
    result = attempts.conclude(place, before, result, job.url)
    prefect_artifacts.create_job_page(result)
    said = pages.describe_end(result)
    return Completed(message=said) if result.outcome == "ok" else Failed(message=said)


def _lower(place: Path, need: Need, limits: dict[str, Any], where: Slots | dict[str, Any]) -> JobResult:
    try:
        own = _convert_deadline(limits, where)
    except InfraError as error:
        return watch.save_lost(place, error.outcome, *error.problems)
    with where.take(need) if isinstance(where, Slots) else slots.use_assigned() as environment:
        return ahead.join(place) or watch.lower(place, Limits(**own), environment)


def _convert_deadline(limits: dict[str, Any], where: Slots | dict[str, Any]) -> dict[str, Any]:
    """Return the limits with the deadline by the clock of this process; a cluster worker gets it by the server's. Raises InfraError."""
    if isinstance(where, Slots) or limits["deadline"] is None:
        return limits
    return {**limits, "deadline": server_clock.to_local(limits["deadline"])}


@task(name="take", cache_policy=NO_CACHE)
def take_jobs(prepared: list[dict[str, Any]], page: str, limits: dict[str, Any], where: Slots | dict[str, Any]) -> State[Any]:
    """Take the results of `Prepared` jobs, given as plain data, from the store.

    Jobs with no stored result are left to `lower_job`. page: key of the artifact that lists the taken jobs. where: as in `lower_job`.
    """
    log, taken = get_run_logger(), []
    for result in attempts.take([from_plain(Prepared, one) for one in prepared], where, _convert_deadline(limits, where)["deadline"]):
        taken.append(result)
        log.info("%s: %s, made by %s", result.id, result.outcome, pages.list_makers(result))
    prefect_artifacts.create_taken_page(taken, page)
    return Completed(message=f"{len(taken)} of {report.pluralize(len(prepared), 'job')} taken from the store")


@flow(name="lower", validate_parameters=False)
def lower(overrides: list[str], folder: str | None = None) -> State[Any]:
    """Lower every job of the run in `folder`, or of a new run made from `overrides`.

    A failed job does not stop the others. The state's data is the number of tasks submitted.
    """
    run = record.load(Path(folder)) if folder else begin.begin(config.load(overrides))
    cluster = from_plain(Cluster, run.data["cluster"])
    here, remote = slots.lay_out(cluster), cluster.runner != "threads"
    deadline = schedule.find_deadline(run)
    limits = {**run.data["limits"], "deadline": server_clock.to_shared(deadline) if remote and deadline is not None else deadline}
    where = run.data["environment"] if remote else here

    taken: dict[str, str] = {}  # job id -> key of the page of its batch

    def take(jobs: Sequence[tuple[str, Need]], number: int) -> Any:
        page = pages.make_key("taken", run.data["suite"], str(number))
        taken.update({job: page for job, _ in jobs})
        batch = [to_plain(attempts.prepare(run, job, need)) for job, need in jobs]
        with runners.request_resources(cluster, READING):
            return take_jobs.with_options(task_run_name=f"from the store ({number})").submit(batch, page, limits, where)

    def submit(job: str, need: Need, attempt: int) -> Any:
        name = job if attempt == 1 else f"{job} (attempt {attempt})"
        with runners.request_resources(cluster, need):
            return lower_job.with_options(task_run_name=name).submit(to_plain(attempts.prepare(run, job, need)), limits, where)

    def gather(futures: list[Any]) -> None:
        wait(futures)
        if remote:
            copies.gather(run, run.list_unfinished())

    try:
        with prefect_artifacts.show_progress(run), copies.gather_during(run, remote):
            tasks = dispatch.lower(run, take, submit, gather, deadline, here)
    except BaseException:
        client.stop()
        raise
    results = run.results()
    said = report.summarize(results)
    prefect_artifacts.create_run_pages(run, results, taken)
    return Failed(message=said, data=tasks) if report.find_unexpected(results) else Completed(message=said, data=tasks)


def run_flow(run: Run, begun: Record, stop: Stop) -> tuple[int, str | None]:
    """Lower the unfinished jobs of a run that has begun, by Prefect's flow.

    Returns how many ended tasks the server has not recorded, and the address of the flow run's page, if it has one. What Prefect raises is
    an InfraError.
    """
    cluster, lost, link = run.plan.cluster, 0, None
    try:
        with server.ignore_foreign_key(managed.get_used() is not None), server.share(cluster), revival.supervise(stop), stop.listen():
            runner = runners.make(cluster, begun.workers)
            flowing = lower.with_options(task_runner=runner, flow_run_name=begun.data["run"])  # type: ignore[arg-type]
            state = flowing(list(run.plan.overrides), str(begun.folder), return_state=True)
            tasks = state.result(raise_on_failure=False)
            if not isinstance(tasks, int):  # the flow did not finish
                state.result(raise_on_failure=True)
            elif state.state_details.flow_run_id:
                link = server.make_link(state.state_details.flow_run_id)
                lost = server.count_missing_records(state.state_details.flow_run_id, tasks)
                if revival.find_embedded() is not None:
                    server.remove_old_runs()
    except (Exception, KeyboardInterrupt) as error:
        if stop.problem is not None:
            raise ServerLost(stop.problem) from None
        if isinstance(error, ShapelineError | KeyboardInterrupt):
            raise
        server.check_home(managed.get_used() is not None)  # if the disk is full, that is the cause
        remedy = "check that the server at PREFECT_API_URL runs, or unset it to use an embedded one"
        fix = remedy if os.environ.get("PREFECT_API_URL") and managed.get_used() is None else ""
        raise InfraError(Problem("Prefect", f"{type(error).__name__}: {error}", fix)) from error
    return lost, link


if __name__ == "__main__":
    sys.exit("python -m flows.lower was replaced by `shapeline run`, and by `shapeline multirun` for -m")
