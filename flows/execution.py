"""Execution of a run from its begin to its report.

Prefect takes seconds to import. It is imported only if its flow is needed: not for jobs that are in the store, nor for a single job.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from flows.config import run as config
from flows.config.document import Worker
from flows.config.plan import Plan
from flows.config.run import Run
from flows.engine import access, ahead, attempts, direct, joining, managed, schedule, server, slots
from flows.engine.dispatch import BATCH
from flows.engine.interrupts import Stop
from flows.engine.progress import Progress
from flows.engine.schedule import Need
from flows.engine.slots import Slots
from flows.history import publish
from flows.runs import begin, copies, environment
from flows.runs.record import Record
from lowering.errors import ConfigError, InfraError
from lowering.record.folder import Limits
from lowering.record.result import UNJUDGED, JobResult
from lowering.store import mirror
from lowering.worker import asking, client, watch

KEPT_MINUTES = 10.0  # for which a warm process stays where the user does not say
KEPT_BYTES = 6 << 30  # of free memory that one is worth, which holds 0.6 GB
NO = ("", "0", "false", "no", "off")


def lower_suite(planned: Plan) -> Path:
    """Lower the jobs of a plan, show the progress on stdout, write the report, and return the run's folder.

    ConfigError and InfraError pass through.
    """
    choose_server(planned)
    client.keep(_choose_minutes(planned.worker))
    local = planned.cluster.runner == "threads"  # other jobs run in processes of the cluster's workers
    return lower_run(config.build(planned, asking.describe if local else None))


def lower_run(run: Run) -> Path:
    """Execute `run`, show its progress on stdout, write its report, and return its folder.

    The report is written even if the run is interrupted, with a row for every job. ConfigError and InfraError pass through.
    """
    access.use_password(os.environ.get(server.URL))
    server.configure()
    stop = Stop()
    with stop.install():
        return _lower_run(run, stop)


def _lower_run(run: Run, stop: Stop) -> Path:
    began, local = time.monotonic(), run.plan.cluster.runner == "threads"
    found = direct.find_server() if local and "prefect" not in sys.modules else None  # without Prefect, if its flow is not needed
    if found is None:
        server.check_home()
    begun = begin.begin(run)
    needed, here = schedule.estimate_needs(begun) if local else {}, slots.lay_out(run.plan.cluster)
    held = attempts.find_held(begun, begun.list_unfinished(), needed, here) if local else []  # jobs that the store seems to have
    all_held = len(held) == len(begun.list_unfinished())
    client.keep(_choose_minutes(run.plan.worker))
    if local and not all_held:
        client.get_server()  # load the compilers while Prefect is imported and its server starts
    progress, lost, ended, link = Progress(begun, sys.stdout), 0, False, None
    try:
        with progress:
            only = _start_only(begun, held, here) if local and not all_held else None
            taken, lowered = [], []
            if found and (all_held or only):
                with stop.listen():
                    taken = _take(begun, held, needed, here)
                    lowered = _join(begun, only) if only else []
            if found and not begun.list_unfinished() and (taken or lowered):
                lost, link = _tell(found, begun, taken, lowered)
            else:
                managed.wait()
                from flows import lower

                lost, link = lower.run_flow(run, begun, stop)
        ended = True
        joining.join(begun)
    finally:
        stop.ignore()
        seconds = time.monotonic() - began
        begin.release(begun)
        watch.save_unsaved()
        written = False
        try:
            publish.write(begun, seconds)
            written = True
            if ended:
                begin.end(begun, seconds)
            copies.upload_reports(begun.folder)
        finally:  # also if the disk is full
            progress.conclude(begun.results(), lost, seconds, link, written)
    return begun.folder


def _choose_minutes(worker: Worker) -> float:
    """Return for how long a warm process stays after this run."""
    if worker.keep_minutes is not None:
        return worker.keep_minutes
    return KEPT_MINUTES if managed.get_used() is not None and environment.read_available_bytes() > KEPT_BYTES else 0.0


def _start_only(begun: Record, held: Sequence[str], here: Slots) -> str | None:
    """Start the job that is to be lowered and return it, if it is the only one, needs no GPU and has no files at a URL."""
    todo = [job for job in begun.list_unfinished() if job not in held]
    if len(todo) == 1 and not here.has_gpus and mirror.find_url(begun.folder) is None:
        limits = {**begun.data["limits"], "deadline": schedule.find_deadline(begun)}
        ahead.start(begun.job_folder(todo[0]), Limits(**limits))
        return todo[0]
    return None


def _join(begun: Record, only: str) -> list[JobResult]:
    """Wait for the job that `_start_only` has started, and return its result. If it has no verdict on the model, the flow tries again."""
    place = begun.job_folder(only)
    result = ahead.join(place)
    return [] if result is None or result.outcome in UNJUDGED else [attempts.conclude(place, None, result, None)]


def _take(begun: Record, held: Sequence[str], needed: Mapping[str, Need], here: Slots) -> list[JobResult]:
    """Take the results of jobs from the store, in this process. What the store lacks after all is left to the flow."""
    prepared = [attempts.prepare(begun, job, needed[job]) for job in held]
    return list(attempts.take(prepared, here, schedule.find_deadline(begun)))


def _tell(address: str, begun: Record, taken: Sequence[JobResult], lowered: Sequence[JobResult]) -> tuple[int, str | None]:
    """Tell Prefect's server about a run that has ended. Returns how many tasks it has not recorded, and the address of the run's page."""
    batches = [taken[first : first + BATCH] for first in range(0, len(taken), BATCH)]
    try:
        managed.wait()
        return 0, direct.make_link(address, direct.record(address, begun, batches, lowered))
    except (OSError, ValueError, KeyError, InfraError):
        return len(batches) + len(lowered), None


def choose_server(planned: Plan) -> None:
    """Let this process report to the server that the user named, or else to the managed one, unless an embedded one is wanted.

    A managed server that cannot be used is reported on stderr, and an embedded one used instead, unless the plan asks for a managed one.
    """
    server.configure()
    server.keep_runs(planned.server.keep_days)
    if named := server.find_named_server():
        access.use_password(named)
        return
    kind = planned.server.kind
    if kind == "auto" and os.environ.get("CI", "").lower() not in NO:
        kind = "embedded"
    if kind == "embedded" or planned.cluster.runner != "threads":
        return
    try:
        managed.use(planned.server.idle_minutes)
    except (ConfigError, InfraError, OSError) as error:
        if kind == "managed":
            raise
        print(f"shapeline: the managed server cannot be used: {error}: this run has a server of its own", file=sys.stderr)
