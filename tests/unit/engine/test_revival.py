"""Prefect's server while a run goes on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.engine import revival
from lowering.errors import Problem


@pytest.fixture
def listener(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What answers at PREFECT_API_URL, until it is closed."""
    monkeypatch.setattr(revival, "LOOK", 0.05)
    monkeypatch.setattr(revival, "SILENCE", 0.3)
    monkeypatch.setattr(revival, "find_embedded", lambda: None)
    with (socket.create_server(("127.0.0.1", 0)) as made,
          temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{made.getsockname()[1]}/api"})):
        yield made


def test_a_server_that_is_gone_for_good_ends_the_run_with_a_reason(listener: socket.socket) -> None:
    problems: list[Problem] = []
    threading.Timer(0.5, listener.close).start()
    revival._watch(problems.append, threading.Event())
    assert "has not answered" in problems[0].cause
    assert problems[0].fix == "restart it and repeat the command: finished jobs are kept"


def test_the_command_does_not_wait_for_those_who_ask_a_server_that_is_gone() -> None:
    script = """
import threading, time
from flows.__main__ import main
from flows.command import run as verb
from flows.engine.revival import ServerLost
from lowering.errors import Problem
def run(arguments):
    threading.Thread(target=time.sleep, args=(3000,)).start()
    raise ServerLost(Problem("Prefect's server", "is gone"))
verb.main = run
raise SystemExit(main(["run"]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120,
                          env={**os.environ, "PYTHONPATH": str(Path.cwd())}, check=False)
    assert done.returncode == 1
    assert "is gone" in done.stderr


def test_a_server_that_cannot_be_seen_from_here_is_not_gone(listener: socket.socket) -> None:
    problems: list[Problem] = []
    ended = threading.Event()
    listener.close()
    threading.Timer(1.0, ended.set).start()
    revival._watch(problems.append, ended)
    assert problems == []


def test_the_embedded_server_does_not_outlive_the_run(tmp_path: Path) -> None:
    script = """
import os, signal, subprocess
from flows.engine import revival
server = subprocess.Popen(["sleep", "3611"])
with revival._end_with_this_process(server.pid):
    print(server.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(Path.cwd())},
                          check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    command = Path(f"/proc/{int(done.stdout)}/cmdline")
    end = time.monotonic() + 20
    while command.exists() and command.read_bytes() and time.monotonic() < end:
        time.sleep(0.05)
    assert not (command.exists() and command.read_bytes()), "it still runs"
