"""A crash or a hang of one op is its own row, with the stage it happened in; every other op has its result."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest

from benchmarks import op_sweep, op_table
from benchmarks.op_sweep import Task, sweep
from benchmarks.op_trial import Trial


def behave(task: Task, tell: Any) -> Trial:
    """What a trial of each toy op does."""
    tell("export")
    if task.op == "aborts":
        tell("stablehlo")
        os.abort()
    if task.op == "hangs":
        tell("torch")
        time.sleep(3600)
    if task.op == "leaves":
        raise SystemExit(3)
    if task.op == "kills its group":
        os.killpg(0, signal.SIGTERM)
        time.sleep(3600)
    if task.op == "wants all memory":
        bytearray(1 << 40)
    if task.op == "has heirs" and os.fork() == 0:
        time.sleep(3600)
    if task.op == "has heirs":
        os._exit(4)
    return Trial(task.op, task.dtype, "ok", "verify", dynamic=("x0[0]=batch",))


@pytest.fixture
def outcomes(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, str]]:
    monkeypatch.setattr(op_sweep, "one", behave)
    tasks = [Task(op, "float32") for op in ("first", "aborts", "second", "hangs", "third", "leaves", "fourth",
                                            "kills its group", "wants all memory", "has heirs", "fifth")]
    return {trial.op: (trial.outcome, trial.stage) for trial in sweep(tasks, workers=2, seconds=2)}


def test_each_op_has_its_own_end(outcomes: dict[str, tuple[str, str]]) -> None:
    well = ("ok", "verify")
    assert outcomes == {"first": well, "second": well, "third": well, "fourth": well, "fifth": well, "aborts": ("crash", "stablehlo"),
                        "hangs": ("timeout", "torch"), "leaves": ("crash", "export"), "kills its group": ("crash", "export"),
                        "wants all memory": ("crash", "export"), "has heirs": ("timeout", "export")}  # fmt: skip


TRIALS = [
    Trial("a", "float32", "ok", "verify", dynamic=("x0[0]=n",)),
    Trial("b", "float32", "unsupported", "torch", problems=("aten.b at model.py:3: torch-mlir does not lower it",)),
    Trial("c", "float32", "not_compared", "verify"),
    Trial("d", "float32", "not_exported", "export"),
    Trial("a", "int64", "crash", "torch"),
]


def test_the_figures_count_what_export_accepts() -> None:
    assert op_table.totals(TRIALS) == {"trials": 5, "exported": 4, "reached_mhlo": 2, "verified": 1, "unsupported": 1, "other": 1,
                                       "reached_percent": 50.0, "verified_percent": 25.0}  # fmt: skip


def test_the_page_names_what_is_missing() -> None:
    page = op_table.page(TRIALS, {"date": "today"})
    assert "| aten.b | b |" in page
    assert "| a | ok | crash (torch) |" in page
