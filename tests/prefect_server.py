"""Real Prefect servers for tests, and the command `shapeline` as a process that reports to one."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
DATABASE = "prefect.db"  # in a home of Prefect
NEW = "new.db"  # beside the home of the session's server: its database before its first run
PATIENCE = 420.0  # seconds that a busy machine may take for a start
# Runs a command until a process ends, and removes a folder then: sh -c UNTIL sh PID FOLDER COMMAND...
UNTIL = ('pid=$1 home=$2; shift 2; "$@" & while kill -0 $pid && kill -0 $!; do sleep 1; done 2>/dev/null; '
         'kill $!; sleep 2; rm -rf "$home"; kill -9 0')


def make_environment(home: Path) -> dict[str, str]:
    """Return the environment of this process with a Prefect home of its own, and the address of a server that is yet to be started."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    unset = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_") and name != "XLA_FLAGS"}
    return {**unset, "PYTHONPATH": str(ROOT), "SHAPELINE_STATE": str(home / "state"), "PREFECT_HOME": str(home / "prefect"),
            "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
            "DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}  # fmt: skip


@cache
def share() -> dict[str, str]:
    """Return the environment of commands that report to the one server of this test session, which the first call in any process starts.

    It spares each of them the start of an embedded one. The server ends, and its home with it, when the session does.
    """
    session = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    home = Path(tempfile.gettempdir()) / f"shapeline-tests-{session}"
    home.mkdir(mode=0o700, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = home / "environment.json"
        environment = json.loads(known.read_text()) if known.is_file() else {}
        if not environment or not _is_healthy(environment["PREFECT_API_URL"]):
            environment = make_environment(home)
            port = environment["PREFECT_API_URL"].rsplit(":", 1)[1].split("/")[0]
            command = [sys.executable, "-m", "prefect", "server", "start", "--port", port]
            with (home / "server.log").open("wb") as log:
                server = subprocess.Popen(["/bin/sh", "-c", UNTIL, "sh", str(session), str(home), *command], env=environment,
                                          stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
            wait(lambda: _is_healthy(environment["PREFECT_API_URL"]), server, home / "server.log")
            with closing(sqlite3.connect(home / "prefect" / DATABASE, timeout=60)) as made, closing(sqlite3.connect(home / NEW)) as copy:
                made.backup(copy)
            known.write_text(json.dumps(environment))
        return dict(environment)


def create_home(home: Path) -> Path:
    """Create a home of Prefect with a migrated database that has no runs, and return it.

    The database is a copy of that of the session's server before its first run: a server spends 4 seconds of CPU on migrating an empty one.
    """
    home.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(share()["PREFECT_HOME"]).parent / NEW, home / DATABASE)
    return home


@contextmanager
def serve(environment: Mapping[str, str], log: Path, *start: str) -> Iterator[None]:
    """Run the server of `environment` for the block. start: the module and words that start it, instead of Prefect's own."""
    port = environment["PREFECT_API_URL"].rsplit(":", 1)[1].split("/")[0]
    with log.open("wb") as output:
        command = [sys.executable, "-m", *(start or ("prefect", "server", "start")), "--port", port]
        server = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        wait(lambda: _is_healthy(environment["PREFECT_API_URL"]), server, log)
        yield
    finally:
        server.terminate()
        server.wait(60)


def wait(met: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a condition is met. Fails with the log of `process` if it ends before, or after PATIENCE seconds."""
    end = time.monotonic() + PATIENCE
    while not met():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.5)


def shapeline(environment: Mapping[str, str], *words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run `shapeline WORDS` and return the process.

    The runs of a session share a warm process, which has loaded the compilers, as long as their environment is the same. It ends when the
    state folder of the environment is removed.
    """
    kept = ["worker.keep_minutes=5"] if words[0] in ("run", "multirun") else []
    command = [sys.executable, "-P", "-m", "flows", *words, *kept]  # -P: the search path is the same in every folder
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=600, check=False)


def _is_healthy(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
