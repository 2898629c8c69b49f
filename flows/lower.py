"""The flow: lowers a suite with one Prefect task a job, each in a child process of its own.

`python -m flows.lower suite=quickstart` takes Hydra overrides, as `shapeline run` does.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from flows import server

server.configure()

from prefect import flow, task
from prefect.client.schemas.objects import State
from prefect.futures import wait
from prefect.states import Completed, Failed

from flows import artifacts, config, copies, dispatch, publish, record, report, revival, runners, seats, workers
from flows.config import Cluster, Run
from flows.dashboard import views
from flows.interrupts import Stop
from flows.progress import Progress
from flows.schedule import Need
from lowering import files, warm, worker
from lowering import remote as elsewhere
from lowering.child import JOB, store_of
from lowering.errors import InfraError, Problem, ShapelineError
from lowering.job import plain, structured
from lowering.result import JobResult, Remark, with_remark


@task(name="lower")
def lower_job(folder: str, limits: dict[str, Any], need: dict[str, Any], remote: dict[str, Any] | None = None,
              url: str | None = None) -> State[Any]:
    """Lower the prepared job in `folder`; the state says how it ended, the record holds everything.

    need: a Need, as the job waits for it on this machine; remote: the run's environment, which a worker of a cluster must match;
    url: of what the folder is a copy, for a worker that does not have it.
    """
    if warm.stopped():
        return Failed(message="not_run: the run was interrupted")
    place = copies.here(folder, url)
    before = JobResult.load(place)
    if before is not None and before.outcome not in record.AGAIN:
        return Completed(message=f"{before.outcome}: ended in an earlier attempt")
    if remote is not None and (found := workers.problems(remote, place, store_of(files.read(place / JOB), place))):
        result = worker.lost(place, InfraError.outcome, *found)
    else:
        with seats.given() if remote is not None else seats.taken(Need(**need)) as environment:
            result = worker.lower(place, worker.Limits(**limits), environment)
    if before is not None and before.outcome == InfraError.outcome:
        result = with_remark(result, Remark("retried", f"an earlier attempt ended in infra: {report.short(before)}", stage=before.stage))
        with suppress(OSError):
            result.save(place)
    with suppress(OSError):  # the report makes the missing views, and says so if the disk refuses
        views.write(place, result)
    try:
        copies.ended(place)
    except OSError as error:
        result = with_remark(result, Remark("output", f"its files could not be put to {url}: {error}", stage=result.stage))
        with suppress(OSError):
            result.save(place)
    artifacts.job_page(result)
    said = f"{result.outcome} in {result.stage} after {result.seconds:.1f} s"
    return Completed(message=said) if result.outcome == "ok" else Failed(message=f"{said}: {report.short(result)}")


@flow(name="lower", validate_parameters=False)
def lower(overrides: list[str], folder: str | None = None) -> State[Any]:
    """Lower every job of a run: of the one begun in `folder`, else of a new one from `overrides`. A failed job stops no other."""
    run = record.load(Path(folder)) if folder else record.begin(config.load(overrides))
    cluster = structured(Cluster, run.data["cluster"])
    seconds = run.data["patience"]["run_seconds"]
    deadline = time.time() + seconds if seconds else None
    limits = {**run.data["limits"], "deadline": deadline}
    remote = run.data["environment"] if cluster.runner != "threads" else None
    seats.lay_out(cluster)

    def submit(job: str, need: Need, attempt: int) -> Any:
        name = job if attempt == 1 else f"{job} (attempt {attempt})"
        with runners.resources(cluster, need):
            folder = run.job_folder(job)
            return lower_job.with_options(task_run_name=name).submit(str(folder), limits, plain(need), remote, elsewhere.url_of(folder))

    def ended(futures: list[Any]) -> None:
        wait(futures)
        if remote is not None:
            copies.gather(run, run.unfinished())

    try:
        with artifacts.progressing(run), copies.gathering(run, remote is not None):
            _submitted[run.folder] = dispatch.lower(run, submit, ended, deadline)
    except BaseException:
        warm.stop()
        raise
    results = run.results()
    said = report.summary(results)
    artifacts.run_pages(run, results)
    return Failed(message=said) if report.unexpected(results) else Completed(message=said)


def lower_suite(run: Run) -> Path:
    """Execute `run`, showing its progress on stdout, and write its report; the run's folder. ConfigError and InfraError pass through.

    Whatever interrupts it, the report is written, with a row for every job.
    """
    began = time.monotonic()
    begun = record.begin(run)
    if run.cluster.runner == "threads":
        warm.server()  # loads the compilers while Prefect's server starts
    progress, lost, ended, stop = Progress(begun, sys.stdout), 0, False, Stop()
    try:
        with progress, server.shared(run.cluster), revival.watched(stop), stop.listening():
            runner = runners.of(run.cluster, begun.workers)
            flowing = lower.with_options(task_runner=runner, flow_run_name=begun.data["run"])  # type: ignore[arg-type]
            state = flowing(list(run.overrides), str(begun.folder), return_state=True)
            if begun.folder not in _submitted:  # the flow did not come to its end
                state.result(raise_on_failure=True)
        if state.state_details.flow_run_id:
            lost = server.missing_records(state.state_details.flow_run_id, _submitted.get(begun.folder, 0))
        ended = True
    except ShapelineError:
        raise
    except KeyboardInterrupt:
        if stop.problem is None:
            raise
        raise InfraError(stop.problem) from None
    except Exception as error:
        fix = "is the server at PREFECT_API_URL running? Unset it to use one of the run's own" if os.environ.get("PREFECT_API_URL") else ""
        raise InfraError(Problem("Prefect", f"{type(error).__name__}: {error}", fix)) from error
    finally:
        seconds = time.monotonic() - began
        publish.write(begun, seconds)
        if ended:
            record.end(begun, seconds)
        copies.concluded(begun.folder)
        progress.conclude(begun.results(), lost, seconds)
    return begun.folder


_submitted: dict[Path, int] = {}  # tasks by the folder of their run


def main(overrides: list[str]) -> int:
    """What `shapeline run` does, and its exit status; with -m, as Hydra sweeps."""
    from flows import command

    if {"-m", "--multirun"} & set(overrides):
        return command.main(["multirun", *overrides])
    return command.main(["run", *overrides])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
