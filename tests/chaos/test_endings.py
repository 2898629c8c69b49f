"""Runs that are ended at random moments: each leaves a report with a row for every job, and no committed result is changed."""

from __future__ import annotations

import json
import random
import signal
import time
from pathlib import Path

import pytest

from tests.chaos import runs

pytestmark = pytest.mark.chaos
ENDINGS = 15  # of each way
WAYS = [f"ok#{number}" for number in range(6)]


@pytest.mark.parametrize("signals", [(signal.SIGTERM,), (signal.SIGHUP,), (signal.SIGINT, signal.SIGINT), (signal.SIGTERM, signal.SIGINT)],
                         ids=["SIGTERM", "SIGHUP", "SIGINT twice", "SIGTERM, then SIGINT"])
def test_an_ended_run_leaves_its_report_and_keeps_what_was_committed(signals: tuple[signal.Signals, ...], tmp_path: Path) -> None:
    chance = random.Random(len(signals) * 100 + signals[0])
    for number in range(ENDINGS):
        home = tmp_path / str(number)
        home.mkdir()
        process = runs.start(home, WAYS, job_seconds=0.5)
        assert runs.wait_for(lambda home=home: bool(runs.runs(home)), 120)
        time.sleep(chance.uniform(0.2, 6.0))
        committed = runs.committed(home)
        for which in signals:
            process.send_signal(which)
            time.sleep(chance.uniform(0.0, 0.5))
        process.wait(120)
        said = (home / "out.txt").read_text()
        assert "--- Logging error ---" not in said, said[-3000:]
        (run,) = runs.runs(home)
        report = json.loads((run / "report.json").read_text())
        assert len(report["jobs"]) == len(WAYS), said[-3000:]
        now = runs.committed(home)
        assert {job: now.get(job) for job in committed} == committed, "a committed result was written again"
        if process.returncode:
            runs.finish(runs.start(home, WAYS, job_seconds=0.0), home)
            assert {job: runs.committed(home).get(job) for job in now} == now
