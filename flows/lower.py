"""The flow: lowers a suite with one Prefect task a job, each in a child process of its own.

`python -m flows.lower suite=quickstart` takes Hydra overrides, as `shapeline run` does.
"""

from __future__ import annotations

import os
import re
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from flows import server

server.configure()

from prefect import flow, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.client.schemas.objects import State
from prefect.futures import wait
from prefect.states import Completed, Failed
from prefect.task_runners import ThreadPoolTaskRunner

from flows import config, publish, record, report
from flows.config import Run
from flows.dashboard import views
from flows.progress import Progress
from lowering import warm, worker
from lowering.errors import InfraError, Problem, ShapelineError


@task(name="lower")
def lower_job(folder: str, limits: dict[str, Any]) -> State[Any]:
    """Lower the prepared job in `folder`; the state says how it ended, the record holds everything."""
    if warm.stopped():
        return Failed(message="not_run: the run was interrupted")
    result = worker.lower(Path(folder), worker.Limits(**limits))
    with suppress(OSError):  # the report makes the missing views, and says so if the disk refuses
        views.write(Path(folder), result)
    create_markdown_artifact("\n".join(report.page(result)), key=_key("job", result.id), description=result.outcome)
    said = f"{result.outcome} in {result.stage} after {result.seconds:.1f} s"
    return Completed(message=said) if result.outcome == "ok" else Failed(message=f"{said}: {report.short(result)}")


@flow(name="lower", validate_parameters=False)
def lower(overrides: list[str], folder: str | None = None) -> State[Any]:
    """Lower every job of a run: of the one begun in `folder`, else of a new one from `overrides`. A failed job stops no other."""
    run = record.load(Path(folder)) if folder else record.begin(config.load(overrides))
    limits = run.data["limits"]
    tasks = [lower_job.with_options(task_run_name=job).submit(str(run.job_folder(job)), limits) for job in run.ids]
    try:
        wait(tasks)
    except BaseException:
        warm.stop()
        raise
    results = run.results()
    said = report.summary(results)
    create_table_artifact(report.rows(results), key=_key("run", run.data["suite"]), description=f"{run.data['run']}: {said}")
    return Failed(message=said) if report.unexpected(results) else Completed(message=said)


def lower_suite(run: Run) -> Path:
    """Execute `run`, showing its progress on stdout, and write its report; the run's folder. ConfigError and InfraError pass through.

    Whatever interrupts it, the report is written, with a row for every job.
    """
    began = time.monotonic()
    begun = record.begin(run)
    warm.server()  # loads the compilers while Prefect's server starts
    progress, lost = Progress(begun, sys.stdout), 0
    try:
        with progress:
            runner: ThreadPoolTaskRunner[Any] = ThreadPoolTaskRunner(max_workers=begun.workers)
            flowing = lower.with_options(task_runner=runner, flow_run_name=begun.data["run"])  # type: ignore[arg-type]
            state = flowing(list(run.overrides), str(begun.folder), return_state=True)
            if state.is_crashed():
                state.result(raise_on_failure=True)
        if state.state_details.flow_run_id:
            lost = server.missing_records(state.state_details.flow_run_id, len(begun.ids))
    except ShapelineError:
        raise
    except Exception as error:
        fix = "is the server at PREFECT_API_URL running? Unset it to use one of the run's own" if os.environ.get("PREFECT_API_URL") else ""
        raise InfraError(Problem("Prefect", f"{type(error).__name__}: {error}", fix)) from error
    finally:
        seconds = time.monotonic() - began
        publish.write(begun, seconds)
        progress.conclude(begun.results(), lost, seconds)
    return begun.folder


def _key(*words: str) -> str:
    """An artifact's key: lowercase letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", "-".join(("shapeline", *words)).lower()).strip("-")


def main(overrides: list[str]) -> int:
    """What `shapeline run` does, and its exit status."""
    from flows import command

    return command.main(["run", *overrides])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
