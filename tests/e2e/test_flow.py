"""A suite of toy jobs through the real flow: Prefect's embedded server, one child process a job, the record and the report."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.prefect_server import create_home

SCRIPT = """
import sys
from flows.config.document import Cluster, Limits
from flows.config.plan import Plan
from flows.config.run import Run
from flows.execution import lower_run
from lowering.worker import client
from tests import toys

client.WARM = ("torch",)  # toys need no compilers
asked = [how.partition("/") for how in sys.argv[2:]]
jobs = tuple(toys.job(how, name=name or how.replace(" ", "-")) for how, _, name in asked)
lower_run(Run(Plan("toys", (), Cluster(workers=2), Limits(stage_seconds=float(sys.argv[1])), overrides=("suite=toys",)), jobs))
"""
WAYS = {"ok": "ok", "segfault": "crash", "raise": "error", "loop in C": "timeout", "unsupported": "unsupported", "garbage": "ok"}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working directory with a Prefect home of its own."""
    home = tmp_path_factory.mktemp("flow")
    create_home(home / "prefect")
    return home


def command(*ways: str, deadline: float = 5.0) -> list[str]:
    return [sys.executable, "-c", SCRIPT, str(deadline), *ways]


def environment(home: Path) -> dict[str, str]:
    unset = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {**unset, "PYTHONPATH": str(Path.cwd()), "PREFECT_HOME": str(home / "prefect"), "COLUMNS": "160", "TERM": "xterm"}


@pytest.fixture(scope="module")
def first(home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(*WAYS), cwd=home, env=environment(home), capture_output=True, text=True, timeout=300, check=False)


def report(home: Path, run: str = "latest") -> dict[str, Any]:
    return dict(json.loads((home / "artifacts" / "runs" / run / "report.json").read_text()))


def test_every_job_has_a_row_with_its_outcome(home: Path, first: subprocess.CompletedProcess[str]) -> None:
    assert first.returncode == 0, first.stderr
    rows = report(home)
    assert {job["model"]: job["outcome"] for job in rows["jobs"]} == {how.replace(" ", "-"): outcome for how, outcome in WAYS.items()}
    assert rows["outcomes"] == {"ok": 2, "unsupported": 1, "error": 1, "crash": 1, "timeout": 1}
    assert rows["as_expected"] is False
    assert all((home / "artifacts/runs/latest" / job["folder"] / job["log"]).exists() for job in rows["jobs"] if job["outcome"] != "ok")


def test_the_plain_lines_count_the_jobs_and_end_with_the_report(first: subprocess.CompletedProcess[str]) -> None:
    lines = first.stdout.splitlines()
    assert [line.split()[0] for line in lines if re.match(r"\d+/6 ", line)] == [f"{count}/6" for count in range(1, 7)]
    assert any(re.match(r"\d/6 segfault--default crash script \d+\.\d s .*SIGSEGV", line) for line in lines)
    assert lines[-3].startswith("6 jobs: 2 ok, 1 unsupported, 1 error, 1 crash, 1 timeout, in ")
    assert lines[-2].startswith("again: shapeline run suite=toys -k 'segfault--default or raise--default")
    assert re.fullmatch(r"report: artifacts/runs/\S+/report\.html", lines[-1])


def test_nothing_but_the_progress_is_printed(first: subprocess.CompletedProcess[str]) -> None:
    assert len(first.stdout.splitlines()) == 1 + 6 + 3
    assert first.stderr == ""


def test_report_md_shows_the_cause_of_every_failure(home: Path, first: subprocess.CompletedProcess[str]) -> None:
    text = (home / "artifacts/runs/latest/report.md").read_text()
    assert text.startswith("# toys: 6 jobs: 2 ok")
    assert "aten.one: no" in text
    assert "aten.two: no" in text
    assert "größer als 例" in text


def test_the_record_has_its_machine_and_packages(home: Path, first: subprocess.CompletedProcess[str]) -> None:
    run = json.loads((home / "artifacts/runs/latest/run.json").read_text())
    assert run["environment"]["packages"]["torch"]
    assert run["environment"]["machine"]["cores"] >= 1
    assert [job["model"] for job in run["jobs"]] == [how.replace(" ", "-") for how in WAYS]


def test_two_runs_are_separate(home: Path, first: subprocess.CompletedProcess[str], prefect: dict[str, str]) -> None:
    before = report(home)
    subprocess.run(command("ok"), cwd=home, env=prefect, check=True, capture_output=True, timeout=300)
    runs = {path.name for path in (home / "artifacts/runs").iterdir() if path.is_dir() and not path.is_symlink()}
    assert len(runs) == 2
    assert report(home, before["run"]) == before
    assert report(home)["run"] != before["run"]
    assert report(home)["as_expected"] is True


def test_the_server_has_every_task_and_the_artifacts(home: Path, first: subprocess.CompletedProcess[str]) -> None:
    import sqlite3

    with sqlite3.connect(home / "prefect" / "prefect.db") as database:
        states = database.execute("select name, state_type from task_run where name like '%--default' order by rowid").fetchall()
        keys = {key for key, in database.execute("select distinct key from artifact where key is not null")}
    wanted = {how.replace(" ", "-"): "COMPLETED" if outcome == "ok" else "FAILED" for how, outcome in WAYS.items()}
    assert {name.removesuffix("--default"): state for name, state in states[:6]} == wanted
    assert {"shapeline-run-toys", "shapeline-job-segfault-default"} <= keys


def test_jobs_from_the_store_share_a_task_and_a_page(home: Path, first: subprocess.CompletedProcess[str], prefect: dict[str, str]) -> None:
    import sqlite3

    subprocess.run(command("ok", "unsupported", "raise"), cwd=home, env=prefect, check=False, capture_output=True, timeout=300)
    ended = {job["model"]: [stage["cache"] for stage in job["stages"]] for job in report(home)["jobs"]}
    assert ended == {"ok": ["hit"] * 3, "unsupported": ["hit", "miss"], "raise": ["hit", "miss"]}
    with sqlite3.connect(Path(prefect["PREFECT_HOME"]) / "prefect.db") as database:
        tasks = database.execute("select task_run.name, task_run.state_type from task_run join flow_run on flow_run.id = flow_run_id "
                                 "where flow_run.name = ?", (report(home)["run"],)).fetchall()
        (page,) = database.execute(
            "select data from artifact where key = 'shapeline-taken-toys-1' order by created desc limit 1").fetchone()
        said = [line for line, in database.execute("select message from log where message like '%made by%'")]
    assert sorted(tasks) == [("from the store (1)", "COMPLETED"), ("raise--default", "FAILED"), ("unsupported--default", "FAILED")]
    assert "| ok--default | ok |" in json.loads(page)
    assert any(line.startswith("ok--default: ok, made by ") for line in said)


def test_an_interrupted_run_still_has_a_row_for_every_job(home: Path, first: subprocess.CompletedProcess[str]) -> None:
    process = subprocess.Popen(command("loop in C", "loop in Python", "loop in C/third", deadline=600), cwd=home, env=environment(home),
                               stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    folder = home / process.stdout.readline().split()[-1]
    end = time.monotonic() + 120
    while len(list(folder.glob("jobs/*/events.jsonl"))) < 2 and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(0.5)
    try:
        process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)  # impatience does not cost the report
        _, said = process.communicate(timeout=120)
    finally:
        process.kill()
    assert process.returncode != 0 and "--- Logging error ---" not in said
    causes = {job["problems"][0]["cause"] for job in report(home, folder.name)["jobs"]}
    assert causes <= {"was interrupted", "no result was recorded", "died, and all its jobs with it"} and "was interrupted" in causes
    outcomes = {job["model"]: job["outcome"] for job in report(home, folder.name)["jobs"]}
    assert set(outcomes) == {"loop-in-C", "loop-in-Python", "third"}
    assert sorted(outcomes.values()) == ["infra", "infra", "not_run"]  # which two were running is the scheduler's choice


def test_a_terminal_gets_a_live_table(home: Path, first: subprocess.CompletedProcess[str], prefect: dict[str, str]) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command("ok", "raise"), cwd=home, env={**prefect, "COLUMNS": "160", "TERM": "xterm"}, stdout=theirs,
                               stderr=theirs)
    os.close(theirs)
    shown = b""
    while True:
        try:
            piece = os.read(ours, 65536)
        except OSError:
            break
        shown += piece
    process.wait(60)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert "waits" in text
    assert "2/2 jobs" in text
    assert re.search(r"raise--default +error +script", text)
    assert any(line.startswith("report: artifacts/runs/") for line in text.rstrip().splitlines()[-2:])
