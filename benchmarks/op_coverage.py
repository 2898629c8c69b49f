"""How many of PyTorch's ops reach MHLO with dynamic dims, and compute there what eager does at other shapes.

    python -m benchmarks.op_coverage [--quick] [--json FILE] [--markdown FILE] [-k NAME] [--workers N] [--samples N] [--seconds N]

Every op of PyTorch's own OpInfo database, with float32 and int64 samples, every dim of every tensor dynamic where torch.export allows it,
goes through the stages of pipeline.yaml; the MHLO program is compiled by XLA for shapes that were not traced, and compared with eager.
"""

from __future__ import annotations

import argparse
import datetime
import gc
import importlib
import json
import os
import platform
import signal
import sys
import time
from collections import Counter
from importlib.metadata import version
from pathlib import Path

from benchmarks import op_samples, op_table
from benchmarks.op_sweep import Task, read, sweep
from benchmarks.op_trial import Trial
from lowering import files
from lowering.plain import to_plain

DTYPES = ("float32", "int64")
_KEPT_EVERY = 25  # trials between writes of the JSON file: a sweep that is cut off can go on
DISTRIBUTIONS = ("torch", "torch-mlir", "jaxlib")
_WARM = ("torch_mlir.ir", "torch_mlir.passmanager", "jaxlib.mlir.ir", "jax")


def tasks(pattern: str, quick: bool, count: int) -> list[Task]:
    """One task for each op and dtype that has samples; quick: every tenth op."""
    names = [name for name in op_samples.database() if pattern in name]
    chosen = names[::10] if quick else names
    return [Task(name, dtype, count) for name in chosen for dtype in DTYPES if op_samples.supports(name, dtype)]


def environment(command: str, seconds: float) -> dict[str, str]:
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"), "command": command, "seconds": f"{seconds:.0f}",
        "python": platform.python_version(), **{name: version(name) for name in DISTRIBUTIONS},
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="every tenth op")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every trial there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the table there (docs/op_coverage.md is one)")
    parser.add_argument("-k", default="", metavar="NAME", help="only ops with this in their name")
    parser.add_argument("--workers", type=int, default=2, help="child processes side by side")
    parser.add_argument("--samples", type=int, default=1, help="samples of each op and dtype; the worst one counts")
    parser.add_argument("--seconds", type=float, default=600, help="deadline of one op and dtype")
    parser.add_argument("--resume", action="store_true", help="keep the trials that --json FILE holds, and go on with the others")
    options = parser.parse_args()
    for name in _WARM:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()
    start, found = time.monotonic(), read(options.json) if options.resume else []
    wanted = tasks(options.k, options.quick, options.samples)
    done = {(trial.op, trial.dtype) for trial in found}
    command = "python -m benchmarks.op_coverage " + " ".join(sys.argv[1:])
    facts = environment(command.strip(), 0)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # a terminal that closes does not end a sweep
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        for trial in sweep([task for task in wanted if (task.op, task.dtype) not in done], options.workers, options.seconds):
            found.append(trial)
            progress(trial, len(found), len(wanted))
            if options.json and len(found) % _KEPT_EVERY == 0:
                _write(options.json, facts, found)
    finally:
        if options.json:
            _write(options.json, facts, found)  # however a sweep ends, `--resume` goes on from there
    facts = environment(command.strip(), time.monotonic() - start)
    if options.resume:
        facts["collected"] = "in several runs; an op's trial may be of an earlier one"
    found.sort(key=lambda trial: (trial.op, trial.dtype))
    print(op_table.stages(found))
    if options.json:
        _write(options.json, facts, found)
    if options.markdown:
        options.markdown.write_text(op_table.page(found, facts), encoding="utf-8")
    print(json.dumps({"benchmark": "op_coverage", **op_table.totals(found), "outcomes": Counter(trial.outcome for trial in found)}))


def _write(path: Path, facts: dict[str, str], found: list[Trial]) -> None:
    files.write(path, {"benchmark": "op_coverage", "environment": facts, "rows": [to_plain(trial) for trial in found]})


def progress(trial: Trial, number: int, total: int) -> None:
    """A line for each trial, as long as someone reads them."""
    cause = files.escape_surrogates(trial.problems[0][:100]).replace("\n", " ") if trial.problems else ""
    try:
        print(f"{number}/{total} {trial.op} {trial.dtype}: {trial.outcome} at {trial.stage} {cause}".rstrip(), flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # its reader has gone; the files are what counts


if __name__ == "__main__":
    main()
