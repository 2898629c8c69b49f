"""The last step of a run: join the programs of each model's entries, in a process of its own."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from flows.report import report
from flows.runs import copies, joined, record
from flows.runs.record import Record, is_own
from lowering import files
from lowering.errors import Problem, ShapelineError
from lowering.ir import text_files
from lowering.record.folder import LOG, SIGNATURE, Limits
from lowering.record.joining import Joining
from lowering.store import provenance
from lowering.worker.processes import VARIABLES, measure_tree
from lowering.worker.watch import TICK

CODE = "lowering.worker.joining"
EARLIER = 8  # runs in which an equal program is looked for


def join(run: Record) -> list[Joining]:
    """Join the packaged programs of the entries of each model, and return the records, also of those that failed.

    A job that did not end well, or was not packaged, leaves its entry out. A model of which no entry is packaged has no joined program.
    Raises OSError.
    """
    requests = {run.job_folder(request.id): request for name, jobs in joined.group(run).items() if (request := _request(run, name, jobs))}
    todo = []
    for folder, request in requests.items():
        if not _take_earlier(run, folder, request):
            (folder / SIGNATURE).unlink(missing_ok=True)  # of an earlier attempt
            request.save(folder)
            todo.append(folder)
    _join_all(todo, run)
    for folder in requests:
        copies.upload_joined(folder)
    return [found for folder in requests if (found := Joining.load(folder)) is not None]


def _request(run: Record, name: str, jobs: Mapping[str, str]) -> Joining | None:
    """Return the request to join the entries of a model, or None if none of them is packaged."""
    ready, missing = {}, {}
    for entry, job in jobs.items():
        result, folder = run.result(job), run.job_folder(job)
        if result is None or result.outcome != "ok":
            missing[entry] = f"{result.outcome} in {result.stage}: {report.describe_cause(result)}" if result else "the job has no result"
        elif not (folder / SIGNATURE).is_file():
            missing[entry] = "the job was not packaged"
        else:
            ready[entry] = folder.name
    folders = [run.folder / "jobs" / folder for folder in ready.values()]
    return Joining(name, ready, missing, _compute_digest(folders, missing)) if ready else None


def _compute_digest(folders: Sequence[Path], missing: Mapping[str, str]) -> str:
    """Return a digest of what is joined, and of the code that does so."""
    whole = hashlib.sha256(files.encode_json([dict(missing), provenance.digest_sources(CODE), provenance.list_versions(CODE)]).encode())
    for folder in folders:
        for path in sorted(folder.iterdir()):
            if path.name == SIGNATURE or ".mlir" in path.suffixes:
                whole.update(f"{folder.name}/{text_files.text_name(path)}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return whole.hexdigest()


def _take_earlier(run: Record, folder: Path, request: Joining) -> bool:
    """Copy an equal program that this run or one of this user's latest runs has joined, and return whether there is one."""
    if (known := Joining.load(folder)) is not None and known.outcome == "ok" and known.digest == request.digest:
        return True
    runs = sorted((path for path in run.folder.parent.iterdir() if path.is_dir() and not path.is_symlink()), reverse=True)
    for other in [path for path in runs if path.name != run.folder.name][:EARLIER]:
        with suppress(OSError, ShapelineError):  # not a run, or a damaged one; the copy is written again
            known = Joining.load(other / "jobs" / folder.name) if is_own(record.load(other)) else None
            if known is not None and known.outcome == "ok" and known.digest == request.digest:
                shutil.copytree(other / "jobs" / folder.name, folder, symlinks=True, dirs_exist_ok=True)
                return True
    return False


def _join_all(folders: Sequence[Path], run: Record) -> None:
    """Join in one process after another, until each of `folders` has an ended record: a process that dies is the fault of one of them."""
    waiting = list(folders)
    limits = Limits(**run.data["limits"])
    while waiting:
        log = waiting[0] / LOG
        with log.open("wb") as output:
            process = subprocess.Popen([sys.executable, "-m", CODE, *map(str, waiting)], stdin=subprocess.DEVNULL, stdout=output,
                                       stderr=subprocess.STDOUT, env={**VARIABLES, **os.environ})
            failure = _follow(process, replace(limits, stage_seconds=limits.stage_seconds * len(waiting)))
        waiting = [folder for folder in waiting if _is_pending(folder)]
        if waiting:
            _blame(waiting.pop(0), *failure or ("crash", Problem("join", f"its process ended with {process.returncode}", f"see {log}")))


def _follow(process: subprocess.Popen[bytes], limits: Limits) -> tuple[str, Problem] | None:
    """Wait until the process ends. Kill it if it exceeds its limits of time or memory, and return the outcome and the problem."""
    end = time.monotonic() + limits.stage_seconds
    try:
        while process.poll() is None:
            held = measure_tree(process.pid)
            if limits.memory_bytes is not None and held > limits.memory_bytes:
                cause = f"its process holds {held >> 20:,} MiB, more than the cap of {limits.memory_bytes >> 20:,} MiB"
                return "oom", Problem("join", cause, "raise limits.memory_bytes")
            if time.monotonic() > end:
                return "timeout", Problem("join", "took too long, and was stopped", "raise limits.stage_seconds")
            time.sleep(TICK)
    finally:
        process.kill()
        process.wait()
    return None


def _is_pending(folder: Path) -> bool:
    found = Joining.load(folder)
    return found is None or found.outcome == "pending"


def _blame(folder: Path, outcome: str, problem: Problem) -> None:
    """Record that the process ended while it joined the program of `folder`."""
    if (found := Joining.load(folder)) is not None:
        replace(found, outcome=outcome, problems=(problem,)).save(folder)
