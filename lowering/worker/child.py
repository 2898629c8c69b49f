"""Main functions of forked processes: a job's redirects the streams to the log, runs the job, commits the result, and exits."""

from __future__ import annotations

import atexit
import faulthandler
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lowering import files, pipeline
from lowering.job import Job
from lowering.record.events import History
from lowering.record.failure import classify
from lowering.record.folder import EVENTS, JOB, LOG, find_store, read_compress_bytes
from lowering.record.recorder import Emit
from lowering.record.result import JobResult
from lowering.worker import describing, native
from lowering.worker.stacks import STACKS_SIGNAL

DISK_FAILED = os.EX_IOERR  # exit code of a child that could not write its record


def main(folder: Path, environment: Mapping[str, str]) -> None:
    """Run the task of `folder` and exit: describe stages if it names some, or else lower its job."""
    if describing.is_asked(folder):
        os.environ.update(environment)
        os.chdir(environment.get("PWD", os.curdir))
        describing.answer(folder)
        os._exit(0)
    lower(folder, environment)


def lower(folder: Path, environment: Mapping[str, str]) -> None:
    """Run the job of `folder` and exit: with 0 if a result is committed, or DISK_FAILED if it could not be written."""
    try:
        _redirect_streams(folder)
        os.environ.update(environment)
        os.chdir(environment.get("PWD", os.curdir))
        with (folder / EVENTS).open("ab", buffering=0) as events:
            def emit(event: Mapping[str, Any]) -> None:
                events.write(files.encode(files.encode_json({"time": round(time.time(), 3), **event}, indent=None) + "\n"))

            emit({"event": "begin", "pid": os.getpid()})
            result = _run_job(folder, emit)
            result.save(folder)
            emit({"event": "committed", "outcome": result.outcome})
    except OSError:
        traceback.print_exc()
        os._exit(DISK_FAILED)
    # Temporary folders and pools are cleaned up, but the destructors of C++ libraries are not run, because they are prone to crash.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _run_job(folder: Path, emit: Emit) -> JobResult:
    data = files.read(folder / JOB)
    try:
        job = Job.from_json(data)
    except BaseException as error:  # noqa: BLE001 - imports the user's modules
        traceback.print_exc()
        return History(data["model"]["name"], data["variant"]).result(*classify(error))
    return pipeline.run(job, folder, emit, find_store(data, folder), read_compress_bytes(data))


def _redirect_streams(folder: Path) -> None:
    """Redirect all output, including that of C++, to the log.

    Stacks of all threads are dumped there too: native and Python stacks on a crash, Python stacks on STACKS_SIGNAL.
    """
    log = os.open(folder / LOG, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.close(null)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)  # type: ignore[union-attr]
    if "torch" in sys.modules:  # its handler writes the native stack; faulthandler, enabled after it, writes first and then chains to it
        sys.modules["torch"]._C._set_print_stack_traces_on_fatal_signal(True)
    faulthandler.enable(log)
    faulthandler.register(STACKS_SIGNAL, log)
    native.allow_tracing()
    signal.signal(signal.SIGINT, signal.default_int_handler)
