"""Begin and end a run: lock its folder `runs/<run-id>/` and prepare a folder for each job, or continue an incomplete run."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.config.document import Limits
from flows.config.plan import Plan
from flows.config.run import Run
from flows.output import RUNS, STORE
from flows.runs import calendars, copies, environment, record
from flows.runs.record import Record, make_folder_name
from lowering import files, trust
from lowering.errors import InfraError, Problem
from lowering.job import DescribedJob, Job
from lowering.plain import to_plain
from lowering.record import folder as folders
from lowering.record.result import Expectation
from lowering.store import keys, signing

ENDED, RESERVE = "ended.json", ".reserve"
REPORT_BYTES, JOB_BYTES = 2 << 20, 64 << 10  # reserved on the disk for the report of a run, and of each of its jobs


def begin(run: Run) -> Record:
    """Return the locked record of a run that is about to start, with its jobs prepared.

    Raises InfraError if the disk refuses, or the key of a shared store cannot be used.

    An incomplete run of the same jobs with the same code is continued in its own record; otherwise a new record is written.
    """
    started, plan = datetime.now(UTC), run.plan
    if plan.cache:
        signing.read_key()
    codes = {job.id: keys.compute(keys.list_job_parts(job.to_json(), {})) for job in run.jobs}
    asked = {key: value for key, value in plan.config.items() if key not in ("server", "worker")}
    identity = hashlib.sha256(files.encode(files.encode_json([asked, codes, to_plain(plan.expected)]))).hexdigest()
    name = f"{make_folder_name(plan.suite)}-{identity[:6]}"
    output = plan.output.absolute()
    made: Path | None = None
    try:
        runs = output / RUNS
        runs.mkdir(parents=True, exist_ok=True)
        cut_short = _find_incomplete(runs, name, identity)
        folder, lock = cut_short or _make_folder(runs, f"{started:%Y%m%dT%H%M%SZ}-{name}")
        made = folder if cut_short is None else None
        limits = get_job_limits(plan.limits)
        for job in run.jobs:
            into = folder / "jobs" / make_folder_name(job.id)
            trust.locate_inside(folder, f"jobs/{into.name}", str(folder))
            if cut_short is None or not folders.is_prepared(into):
                folders.prepare(job, into, limits, output / STORE if plan.cache else None)
        if cut_short is None:
            data = {"schema": record.SCHEMA, "run": folder.name, "identity": identity, "started": started.isoformat(timespec="seconds")}
            store = os.path.relpath(output / STORE, folder) if plan.cache else None
            whole = {**data, **_describe(plan, run.jobs, codes), "limits": to_plain(limits), "store": store}
            files.write(folder / record.RUN, trust.seal(whole, record.RUN))
            copies.upload_run(record.load(folder))
        _reserve(folder, len(run.jobs))
        _link_latest(runs / "latest", folder.name)
    except OSError as error:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)
        raise InfraError(Problem(str(error.filename or plan.output), f"the run's record cannot be written: {error.strerror}",
                                 "free disk space, or choose another disk: output=FOLDER")) from error
    return replace(record.load(folder), lock=lock)


def _reserve(folder: Path, jobs: int) -> None:
    """Keep room for the report, so that it can be written even if the jobs fill the disk. Raises OSError."""
    with (folder / RESERVE).open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, REPORT_BYTES + jobs * JOB_BYTES)


def release(run: Record) -> None:
    """Give up the room that was kept for the report, which is about to be written."""
    with suppress(OSError):
        (run.folder / RESERVE).unlink(missing_ok=True)


def end(run: Record, seconds: float) -> None:
    """Mark the run as complete and unlock it, so that the same command starts a new run. Raises OSError."""
    files.write(run.folder / ENDED, {"ended": datetime.now(UTC).isoformat(timespec="seconds"), "seconds": round(seconds, 3)})
    if run.lock is not None:
        os.close(run.lock)


def get_job_limits(limits: Limits) -> folders.Limits:
    """Return the limits that apply to each job."""
    return folders.Limits(limits.stage_seconds, limits.memory_bytes, compress_bytes=limits.compress_bytes)


def count_workers(jobs: int) -> int:
    """Return the maximum number of concurrent jobs on this machine: its cores. Each job also waits for the memory it needs."""
    return max(1, min(len(os.sched_getaffinity(0)), jobs))


def wants_gpu(job: Job | DescribedJob) -> bool:
    """Return whether an option of one of the job's stages requests a GPU."""
    options = [value for stage in job.to_json()["stages"].values() for value in stage.values()]
    return any(value in ("gpu", "cuda") or (isinstance(value, list) and {"gpu", "cuda"}.intersection(map(str, value))) for value in options)


def _describe(plan: Plan, jobs: Sequence[Job | DescribedJob], codes: Mapping[str, str]) -> dict[str, Any]:
    """Return the part of run.json that does not depend on the run's folder."""
    limits = plan.limits
    return {
        "suite": plan.suite,
        "overrides": list(plan.overrides),
        "workers": plan.cluster.workers or count_workers(len(jobs)),
        "cluster": to_plain(plan.cluster),
        "patience": {"run_seconds": limits.run_seconds, "retries": limits.retries, "retry_seconds": limits.retry_seconds},
        "jobs": [{"id": job.id, "model": (data := job.to_json())["model"]["name"], "variant": data["variant"], "gpu": wants_gpu(job),
                  "key": codes[job.id], "axes": dict(plan.axes.get(job.id, {})),
                  "expect": to_plain(plan.expected.get(job.id, Expectation()))} for job in jobs],
        "expectations": str(plan.expectations) if plan.expectations else None,
        "whole": plan.whole,
        "environment": environment.describe(),
        "command": sys.argv,
        "config": plan.config,
    }


def _make_folder(runs: Path, name: str) -> tuple[Path, int | None]:
    """Make and lock a new folder called `name`, with a number appended if the name is taken."""
    number = 1
    while True:
        folder = runs / (name if number == 1 else f"{name}-{number}")
        with suppress(FileExistsError):
            folder.mkdir()
            with suppress(BlockingIOError):
                return folder, _lock(folder)
        number += 1


def _find_incomplete(runs: Path, name: str, identity: str) -> tuple[Path, int | None] | None:
    """Lock the newest run of this user with this identity, if it is incomplete and no other process has locked it."""
    for folder in sorted(runs.glob(f"*-{name}*"), reverse=True):
        with suppress(OSError, ValueError):
            data = files.read(folder / record.RUN)
            if folder.is_symlink() or data.get("identity") != identity or not trust.is_own(data, record.RUN):
                continue
            if (folder / ENDED).exists():
                return None
            try:
                return folder, _lock(folder)
            except BlockingIOError:
                return None
    return None


def _lock(folder: Path) -> int | None:
    """Lock the run in `folder` until this process exits, and note the calendar. Raises BlockingIOError if another process has locked it.

    Returns None on a file system without locks, where two concurrent runs with the same identity are not detected.
    """
    file = files.open_lock(folder / record.LOCK)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        raise
    except OSError:
        os.close(file)
        return None
    calendars.note(file)
    return file


def _link_latest(link: Path, target: str) -> None:
    draft = link.with_name(f".{link.name}.{os.getpid()}")
    draft.unlink(missing_ok=True)
    draft.symlink_to(target)
    draft.replace(link)
