"""Jobs in real child processes: whatever one does to itself, its result says what and where, and nothing of it is left running."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lowering import files, pipeline
from lowering.errors import Problem
from lowering.job import Job
from lowering.record.events import History
from lowering.record.folder import Limits, prepare
from lowering.record.result import JobResult
from lowering.worker import client, native, watch
from tests import toys
from tests.waiting import wait_for

pytestmark = pytest.mark.usefixtures("light_server")
PATIENT = Limits(stage_seconds=60, memory_bytes=4 << 30, exit_seconds=1.0)


def lower(folder: Path, how: str, limits: Limits = PATIENT, seconds: float = 0.0) -> JobResult:
    prepare(toys.job(how, seconds=seconds), folder, limits)
    result = watch.lower(folder, limits)
    assert JobResult.load(folder) == result, "the result is not the one in the manifest"
    return result


def log(folder: Path) -> str:
    return (folder / "log.txt").read_text(encoding="utf-8", errors="replace")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_an_ok_job(tmp_path: Path) -> None:
    result = lower(tmp_path, "ok")
    assert (result.outcome, result.stage, result.problems) == ("ok", "torch", ())
    assert [stage.name for stage in result.stages] == ["export", "script", "torch"]
    assert all((tmp_path / str(stage.artifact)).read_text().startswith("toy from") for stage in result.stages)
    assert [remark.code for remark in result.warnings] == ["about-to"]


@pytest.mark.parametrize(("how", "outcome", "cause"), [
    ("raise", "error", "größer als 例"),
    ("unreadable", "error", "Unreadable"),
    ("sys.exit", "error", "sys.exit(0)"),
    ("memory error", "oom", "MemoryError"),
    ("infra", "infra", "is gone"),
    ("os._exit", "crash", "exited with code 0 and no result"),
    ("segfault", "crash", "SIGSEGV"),
    ("abort", "crash", "SIGABRT"),
    ("kill", "infra", "killed from outside by SIGKILL"),
])
def test_a_bad_end_is_an_outcome_of_its_stage(tmp_path: Path, how: str, outcome: str, cause: str) -> None:
    result = lower(tmp_path, how)
    assert (result.outcome, result.stage) == (outcome, "script")
    assert cause in str(result.problems[0])
    assert [(stage.name, stage.outcome) for stage in result.stages] == [("export", "ok"), ("script", outcome)]
    assert result.warnings[0].message == f"now: {how}", "what was said before the end is lost"


@pytest.mark.parametrize("how", ["segfault", "abort"])
def test_a_crash_leaves_its_stacks(tmp_path: Path, how: str) -> None:
    result = lower(tmp_path, how)
    stacks = log(tmp_path)
    assert "toys.py" in stacks
    assert "Extension modules: " in stacks
    assert re.search(r"frame #\d+: .* \+ 0x[0-9a-f]+ \(0x[0-9a-f]+ in \S+\.so", stacks), "the native stack is missing"
    assert re.search(rf"toys\.py:\d+ in _{how}", result.problems[0].cause)


def test_a_segfault_names_the_library_it_happened_in(tmp_path: Path) -> None:
    assert "_ctypes" in lower(tmp_path, "segfault").problems[0].cause


def test_a_crash_whose_handler_hangs_is_a_crash(tmp_path: Path) -> None:
    result = lower(tmp_path, "hang in a crash", Limits(stage_seconds=2))
    assert (result.outcome, result.stage) == ("crash", "script")


@pytest.mark.parametrize(("how", "line"), [("loop in Python", "_loop_in_python"), ("loop in C", "_loop_in_c")])
def test_a_deadline_ends_a_loop_and_shows_where_it_was(tmp_path: Path, how: str, line: str) -> None:
    result = lower(tmp_path, how, Limits(stage_seconds=0.5))
    assert (result.outcome, result.stage) == ("timeout", "script")
    assert line in log(tmp_path)
    assert re.search(rf"^Thread \d+ \(active.*\n(    .*\n)*    {line} \(\S*toys\.py:\d+\)$", log(tmp_path),
                     re.MULTILINE), "py-spy's are missing"
    assert 0.5 <= result.stages[-1].seconds < 5, "how long the stacks took to read is not the stage's"


def test_native_frames_are_between_those_of_python() -> None:
    script = "import re\nprint(flush=True)\nre.match('(a+)+$', 'a' * 64 + 'b')"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(0.5)
        found = native.read_stacks(process.pid)
        process.kill()
    assert re.search(r"    sre_\w+ \(\S+\)\n(    .*\n)*    <module> \(<string>:3\)\n", found), found


@pytest.mark.parametrize(("program", "said"), [
    (None, "no native stacks: py-spy is not installed (pip install 'shapeline[stacks]')"),
    ("echo Error: Permission Denied >&2; exit 1",
     "no native stacks: Error: Permission Denied (a container needs the capability SYS_PTRACE)"),
    ("sleep 60", "no native stacks: Command "),
])  # fmt: skip
def test_why_there_are_no_native_stacks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str | None, said: str) -> None:
    monkeypatch.setattr(native.sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    if program is not None:
        (tmp_path / "py-spy").write_text(f"#!/bin/sh\n{program}\n")
        (tmp_path / "py-spy").chmod(0o755)
    assert native.read_stacks(os.getpid(), patience=1.0).startswith(said)


def test_the_deadline_is_each_stages_own(tmp_path: Path) -> None:
    stages = {"export": toys.Export(), "one": toys.Behave(seconds=0.5), "two": toys.SlowTorch(seconds=0.5)}
    prepare(Job(toys.model(), stages), tmp_path)
    assert watch.lower(tmp_path, Limits(stage_seconds=0.8)).outcome == "ok"


@pytest.mark.parametrize("how", ["blow up", "blow up in a process"])
def test_a_memory_cap_holds_for_the_process_tree(tmp_path: Path, how: str) -> None:
    cap = 1500 << 20
    result = lower(tmp_path, how, Limits(stage_seconds=60, memory_bytes=cap))
    assert (result.outcome, result.stage) == ("oom", "script")
    assert result.peak_rss_bytes is not None
    assert result.peak_rss_bytes > cap


def test_what_a_job_prints_is_its_log_and_nothing_else(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    result = lower(tmp_path, "garbage")
    assert result.outcome == "ok"
    assert "{not json" in log(tmp_path)
    assert "from C" in log(tmp_path)
    assert capfd.readouterr() == ("", "")


def test_a_committed_result_counts_when_the_process_hangs_at_exit(tmp_path: Path) -> None:
    result = lower(tmp_path, "hang at exit")
    assert result.outcome == "ok"
    assert "hung at exit" in result.warnings[-1].message


def test_a_committed_result_counts_when_the_process_dies_at_exit(tmp_path: Path) -> None:
    result = lower(tmp_path, "die at exit")
    assert result.outcome == "ok"
    assert "-11" in result.warnings[-1].message


def test_nothing_a_job_started_outlives_it(tmp_path: Path) -> None:
    assert lower(tmp_path, "orphan").outcome == "ok"
    assert [path for path in Path("/proc").glob("[0-9]*/cmdline") if _command(path) == b"sleep\x003607\x00"] == []


def _command(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_a_job_whose_stage_cannot_be_imported(tmp_path: Path) -> None:
    prepare(toys.job(), tmp_path)
    data = files.read(tmp_path / "job.json")
    data["stages"]["script"]["_target_"] = "tests.toys.Nowhere"
    files.write(tmp_path / "job.json", data)
    result = watch.lower(tmp_path, PATIENT)
    assert (result.outcome, result.stage) == ("error", "start")
    assert "has no 'Nowhere'" in str(result.problems[0])


def test_jobs_side_by_side_do_not_touch_each_other(tmp_path: Path) -> None:
    ways = {"ok": "ok", "segfault": "crash", "loop in C": "timeout", "raise": "error", "garbage": "ok", "os._exit": "crash"}
    results: dict[str, JobResult] = {}

    def one(how: str) -> None:
        results[how] = lower(tmp_path / how, how, Limits(stage_seconds=2))

    threads = [threading.Thread(target=one, args=(how,)) for how in ways]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {how: result.outcome for how, result in results.items()} == ways


def test_an_old_result_does_not_stand_in_for_a_missing_one(tmp_path: Path) -> None:
    assert lower(tmp_path, "ok").outcome == "ok"
    for derived in ("levels.json", "view.js"):
        (tmp_path / derived).write_text("of the first attempt")
        os.utime(tmp_path / derived, (time.time() + 86400,) * 2)  # the clock was set back since
    assert lower(tmp_path, "os._exit").outcome == "crash"
    assert not {"levels.json", "view.js"} & {path.name for path in tmp_path.iterdir()}


def test_a_folder_that_cannot_be_written_is_infra(tmp_path: Path) -> None:
    prepare(toys.job(), tmp_path)
    (tmp_path / "log.txt").mkdir()
    result = watch.lower(tmp_path, PATIENT)
    assert result.outcome == "infra"
    assert "log.txt" in str(result.problems[0])


def test_a_dead_fork_server_is_infra_and_the_next_job_gets_a_new_one(tmp_path: Path) -> None:
    results: list[JobResult] = []
    thread = threading.Thread(target=lambda: results.append(lower(tmp_path, "loop in Python")))
    thread.start()
    assert wait_for(lambda: (tmp_path / "events.jsonl").exists() and "about-to" in (tmp_path / "events.jsonl").read_text(), 60)
    client.get_server().kill()
    thread.join()
    assert (results[0].outcome, results[0].stage) == ("infra", "script")
    assert lower(tmp_path, "ok").outcome == "ok"


@pytest.fixture
def flow(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A process that watches a looping job, started as a script is, and the job's pid."""
    prepare(toys.job("loop in Python"), tmp_path)
    script = tmp_path / "console-script"
    script.write_text("from lowering.worker import client, watch\nfrom pathlib import Path\nclient.WARM = "
                      f"(\"torch\",)\nwatch.lower(Path({str(tmp_path)!r}))\n")
    process = subprocess.Popen([sys.executable, str(script)], env={**os.environ, "PYTHONPATH": str(Path.cwd())})
    events = tmp_path / "events.jsonl"
    assert wait_for(lambda: events.exists() and "about-to" in events.read_text(), 60)
    yield process, json.loads(events.read_text().splitlines()[0])["pid"]
    process.kill()
    process.wait()


def test_a_job_dies_with_the_process_that_watches_it(flow: tuple[subprocess.Popen[bytes], int]) -> None:
    process, pid = flow
    assert alive(pid)
    process.send_signal(signal.SIGKILL)
    assert wait_for(lambda: not alive(pid)), "the job outlived its watcher"


def test_one_pasted_command_runs_a_job_again_from_the_stage_that_failed(tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "one" / "jobs" / "toy"
    prepare(toys.job("segfault"), folder, store=tmp_path / "store")
    first = watch.lower(folder)
    bare = {"PATH": os.environ["PATH"]}
    done = subprocess.run([str(folder / "repro.sh")], capture_output=True, text=True, cwd="/", env=bare, check=False)
    assert done.returncode == 1, done.stderr
    assert "crash in script" in done.stdout
    again = JobResult.load(folder / "repro")
    assert again is not None
    assert [(stage.name, stage.cache, stage.outcome) for stage in again.stages] == [("export", "hit", "ok"), ("script", "off", "crash")]
    assert again.problems == first.problems


@pytest.mark.parametrize("dies", ["server", "interrupt"])
def test_a_committed_result_is_never_written_again(dies: str, tmp_path: Path) -> None:
    """The fork server dies, or the run is interrupted, between the commit of a job and its exit."""
    prepare(toys.job(), tmp_path)
    pipeline.run(toys.job(), tmp_path).save(tmp_path)
    before = (tmp_path / "manifest.json").read_bytes()
    following = watch._Watch(tmp_path, Limits(), History("toy", "default"))
    problem = Problem("fork server", "died, and all its jobs with it") if dies == "server" else Problem("run", "was interrupted")
    assert following.build_failed("infra", problem).outcome == "ok"
    assert watch.save_lost(tmp_path, "not_run", problem).outcome == "ok"
    assert (tmp_path / "manifest.json").read_bytes() == before
