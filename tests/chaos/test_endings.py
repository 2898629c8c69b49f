"""Runs that are ended at random moments, or by a full disk, a lost server, a closed output.

Each leaves a report with a row for every job and no process, and no committed result is changed.
"""

from __future__ import annotations

import json
import random
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests import prefect_server
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
        assert runs.wait_for(lambda home=home: not runs.list_left(home), 20), [runs.command_of(pid) for pid in runs.list_left(home)]
        said = (home / "out.txt").read_text()
        assert "--- Logging error ---" not in said, said[-3000:]
        (run,) = runs.runs(home)
        report = json.loads((run / "report.json").read_text())
        assert len(report["jobs"]) == len(WAYS), said[-3000:]
        now = runs.committed(home)
        assert {job: now.get(job) for job in committed} == committed, "a committed result was written again"
        if process.returncode:
            runs.finish(runs.start(home, WAYS, job_seconds=0.5), home)  # the same jobs, so the run goes on in its record
            assert runs.runs(home) == [run]
            assert {job: runs.committed(home).get(job) for job in now} == now


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 24 MiB; needs root."""
    folder = tmp_path / "small"
    folder.mkdir()
    try:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(folder)], check=True, capture_output=True)
    except (subprocess.CalledProcessError, FileNotFoundError):
        pytest.skip("only root can mount a small disk")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Write a file until the disk of `folder` is full, and return its path."""
    filler = folder / "filler"
    with suppress(OSError), filler.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return filler


def start_and_wait(home: Path, **more: str) -> tuple[subprocess.Popen[str], dict[str, int]]:
    """Start a run, and wait until a job has committed its result. Return the run, and when each result was committed."""
    process = runs.start(home, WAYS, job_seconds=1.0, more=more, embedded=True)
    assert runs.wait_for(lambda: runs.committed(home) or process.poll() is not None, 120)
    return process, runs.committed(home)


def check_report(home: Path, committed: Mapping[str, int]) -> list[dict[str, Any]]:
    """Check that a run has a report with a row for every job, and kept what was committed. Return the rows."""
    report = json.loads((runs.runs(home)[0] / "report.json").read_text())
    assert len(report["jobs"]) == len(WAYS), (home / "out.txt").read_text()[-3000:]
    now = runs.committed(home)
    assert {job: now.get(job) for job in committed} == committed, "a committed result was written again"
    assert "Traceback" not in (home / "out.txt").read_text()
    return list(report["jobs"])


def test_a_full_disk_is_named_in_the_report(tmp_path: Path, small: Path) -> None:
    (tmp_path / "artifacts").symlink_to(small)
    process, committed = start_and_wait(tmp_path)
    filler = fill(small)
    assert process.wait(200) == 0
    rows = check_report(tmp_path, committed)
    lost = [row for row in rows if row["outcome"] == "infra"]
    assert lost and all("No space left" in json.dumps(row) for row in lost)
    filler.unlink()
    runs.finish(runs.start(tmp_path, WAYS), tmp_path)


def test_a_full_disk_of_prefects_database_ends_the_run_with_that_reason(tmp_path: Path, small: Path) -> None:
    process, committed = start_and_wait(tmp_path, PREFECT_HOME=str(small))
    fill(small)
    assert process.wait(200) == 1
    check_report(tmp_path, committed)
    assert f"Prefect's home {small} cannot be written: No space left" in " ".join((tmp_path / "out.txt").read_text().split())


def test_a_server_that_the_user_named_and_that_is_gone_ends_the_run_with_that_reason(tmp_path: Path) -> None:
    environment = prefect_server.make_environment(tmp_path)
    address = {"PREFECT_API_URL": environment["PREFECT_API_URL"]}
    with prefect_server.serve(environment, tmp_path / "server.log"):
        process = runs.start(tmp_path, [f"ok#{number}" for number in range(40)], job_seconds=4.0, more=address)
        assert runs.wait_for(lambda: runs.committed(tmp_path), 120)
    committed = runs.committed(tmp_path)
    assert process.wait(200) == 1
    now = runs.committed(tmp_path)
    assert {job: now.get(job) for job in committed} == committed
    assert len(json.loads((runs.runs(tmp_path)[0] / "report.json").read_text())["jobs"]) == 40
    said = (tmp_path / "out.txt").read_text()
    assert "has not answered for 60 s" in said and "restart it and repeat the command" in said and "Traceback" not in said


@pytest.mark.parametrize("out", ["/dev/full", "closed"])
def test_an_output_that_cannot_be_written_does_not_end_the_run(tmp_path: Path, out: str) -> None:
    command = [sys.executable, "-m", "tests.chaos.driver", "threads", "20", "0.1", *WAYS]
    environment = {**prefect_server.share(), "PYTHONPATH": str(runs.ROOT)}
    ends = "2>&1 >/dev/full" if out == "/dev/full" else "2>&1 >&-"
    done = subprocess.run(["/bin/sh", "-c", f"{shlex.join(command)} {ends}"], cwd=tmp_path, env=environment, capture_output=True, text=True,
                          timeout=300)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert runs.ended_well(tmp_path)
    assert all(job["outcome"] == "ok" for job in runs.jobs(tmp_path).values())
