"""Starting, killing and reading runs of `tests.chaos.driver`."""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from lowering.worker.processes import list_children
from tests import prefect_server

ROOT = Path(__file__).parents[2]


def start(home: Path, ways: Sequence[str], runner: str = "threads", stage_seconds: float = 20.0, job_seconds: float = 0.0,
          more: Mapping[str, str] | None = None, embedded: bool = False) -> subprocess.Popen[str]:
    """A run in the working directory `home`, which holds its artifacts. more: variables of its environment.

    embedded: with a Prefect server of the run's own, where that matters; starting one takes longer than most of these runs.
    """
    unset = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    server = {} if embedded else {"PREFECT_API_URL": prefect_server.share()["PREFECT_API_URL"]}
    with (home / "out.txt").open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.driver", runner, str(stage_seconds), str(job_seconds), *ways], cwd=home, text=True,
            stdout=log, stderr=subprocess.STDOUT,
            env={**unset, "PYTHONPATH": path, "PREFECT_HOME": _prefect_home(), "COLUMNS": "200", **server, **(more or {})})


def answers(address: str) -> bool:
    with suppress(OSError), urllib.request.urlopen(address, timeout=5) as answer:
        return bool(answer.status)
    return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@cache
def _prefect_home() -> str:
    """One for all runs of this process that bring their own server."""
    folder = tempfile.mkdtemp(prefix="shapeline-prefect-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return str(prefect_server.create_home(Path(folder)))


def ended_well(home: Path) -> bool:
    """Whether every job of the only run has a result that counts."""
    (run,) = runs(home)
    return set(committed(home)) == {path.name for path in (run / "jobs").iterdir()}


def finish(process: subprocess.Popen[str], home: Path, seconds: float = 400.0) -> None:
    """Wait for the end of a run that is to come to one."""
    assert process.wait(seconds) == 0, (home / "out.txt").read_text()[-6000:]


def jobs(home: Path, run: str = "latest") -> dict[str, dict[str, Any]]:
    """The rows of the report, by model."""
    return {job["model"]: job for job in report(home / "artifacts", run)["jobs"]}


def report(output: Path, run: str = "latest") -> dict[str, Any]:
    return dict(json.loads((output / "runs" / run / "report.json").read_text()))


def runs(home: Path) -> list[Path]:
    return sorted(path.parent for path in (home / "artifacts" / "runs").glob("*/run.json") if not path.parent.is_symlink())


def committed(home: Path) -> dict[str, int]:
    """When each result that counts was committed, by job: none of these may be made again."""
    found = {}
    for path in (home / "artifacts" / "runs").glob("2*/jobs/*/manifest.json"):
        if json.loads(path.read_text())["outcome"] not in ("infra", "not_run"):
            found[path.parent.name] = path.stat().st_mtime_ns
    return found


def digests(home: Path) -> dict[str, str]:
    """Of every artifact of every stage, by job and file."""
    (run,) = runs(home)
    return {f"{path.parent.name}/{path.name}": hashlib.sha256(path.read_bytes()).hexdigest() for path in run.glob("jobs/*/0*-*")}


def wait_for(met: Callable[[], object], seconds: float = 120.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if met():
            return True
        time.sleep(0.02)
    return False


def children(home: Path) -> list[int]:
    """The processes of jobs that have begun and not committed."""
    found = []
    for path in (home / "artifacts" / "runs").glob("2*/jobs/*/events.jsonl"):
        events: list[dict[str, Any]] = []
        with suppress(FileNotFoundError):  # begun anew just now
            events = [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]
        pid = events[0]["pid"] if events else 0
        if pid and events[-1]["event"] != "committed" and Path(f"/proc/{pid}").exists():
            found.append(pid)
    return found


def descendants(pid: int) -> list[int]:
    direct = list(list_children(pid))
    return direct + [below for child in direct for below in descendants(child)]


def list_left(home: Path) -> list[int]:
    """List the processes whose working directory is `home` or below: those that a run has started."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and (entry / "cwd").readlink().is_relative_to(home):
                found.append(int(entry.name))
    return found


def command_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""


def alive(pids: Sequence[int]) -> bool:
    """Whether any of these processes runs."""
    return any(command_of(pid) for pid in pids)  # a dead one that nobody has collected yet has none


def kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return  # it was faster
