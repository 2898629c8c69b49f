"""What the sweeps over PyTorch's databases have in common: options, workers, files that a later call goes on from."""

from __future__ import annotations

import argparse
import datetime
import gc
import importlib
import os
import platform
import signal
import sys
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from benchmarks.op_sweep import Task, read, sweep
from benchmarks.op_trial import Trial
from lowering import files
from lowering.plain import to_plain

_KEPT_EVERY = 25  # trials between writes of the JSON file: a sweep that is cut off can go on
DISTRIBUTIONS = ("torch", "torch-mlir", "jaxlib")
_WARM = ("torch_mlir.ir", "torch_mlir.passmanager", "jaxlib.mlir.ir", "jax")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of every sweep."""
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every trial there")
    parser.add_argument("-k", default="", metavar="NAME", help="only those with this in their name; several are separated by commas")
    parser.add_argument("--workers", type=int, default=2, help="child processes side by side")
    parser.add_argument("--seconds", type=float, default=600, help="deadline of one trial")
    parser.add_argument("--resume", action="store_true", help="keep the trials that --json FILE holds, and go on with the others")


def collect(options: argparse.Namespace, wanted: Sequence[Task], name: str) -> tuple[list[Trial], dict[str, str]]:
    """Return the trials of all tasks, by name, and the facts about the run, which the JSON file has too."""
    for module in _WARM:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    start, found = time.monotonic(), read(options.json) if options.resume and options.json else []
    done = {(trial.op, trial.dtype) for trial in found}
    command = f"python -m benchmarks.{name} {' '.join(sys.argv[1:])}".strip()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a terminal that closes does not end a sweep
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        for trial in sweep([task for task in wanted if (task.op, task.dtype) not in done], options.workers, options.seconds):
            found.append(trial)
            progress(trial, len(found), len(wanted))
            if options.json and len(found) % _KEPT_EVERY == 0:
                write(options.json, name, environment(command, 0), found)
    finally:
        if options.json:
            write(options.json, name, environment(command, 0), found)  # however a sweep ends, `--resume` goes on from there
    facts = environment(command, time.monotonic() - start)
    if options.resume:
        facts["collected"] = "in several runs; a trial may be of an earlier one"
    found.sort(key=lambda trial: (trial.op, trial.dtype))
    if options.json:
        write(options.json, name, facts, found)
    return found, facts


def environment(command: str, seconds: float) -> dict[str, str]:
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"), "command": command, "seconds": f"{seconds:.0f}",
        "python": platform.python_version(), **{name: version(name) for name in DISTRIBUTIONS},
    }  # fmt: skip


def write(path: Path, name: str, facts: dict[str, str], found: list[Trial]) -> None:
    files.write(path, {"benchmark": name, "environment": facts, "rows": [to_plain(trial) for trial in found]})


def progress(trial: Trial, number: int, total: int) -> None:
    """Print a line for each trial, as long as the output is read."""
    cause = files.escape_surrogates(trial.problems[0][:100]).replace("\n", " ") if trial.problems else ""
    try:
        print(f"{number}/{total} {trial.op} {trial.dtype}: {trial.outcome} at {trial.stage} {cause}".rstrip(), flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # its reader has gone; the files are what counts
