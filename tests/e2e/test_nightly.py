"""The nightly deployment on a real Prefect server, its cron close at hand: it runs twice, and the second compares itself with the first."""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

NIGHTS = 2
PATIENCE = 420.0  # seconds: two whole minutes of cron, and what a busy machine takes for a start


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    unset = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    return {**unset, "PREFECT_HOME": str(tmp_path / "prefect"), "PREFECT_API_URL": f"http://127.0.0.1:{port}/api", "DO_NOT_TRACK": "1",
            "PREFECT_SERVER_ANALYTICS_ENABLED": "false", "PREFECT_RUNNER_POLL_FREQUENCY": "2"}  # fmt: skip


@pytest.fixture
def served(tmp_path: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A server, and `shapeline nightly` with a run due every minute, whose summaries go to a file."""
    port = environment["PREFECT_API_URL"].rsplit(":", 1)[1].split("/")[0]
    with (tmp_path / "server.log").open("wb") as log:
        server = subprocess.Popen([sys.executable, "-m", "prefect", "server", "start", "--port", port], env=environment, stdout=log, stderr=log)
    try:
        wait(lambda: healthy(environment["PREFECT_API_URL"]), server, tmp_path / "server.log")
        posted = shlex.quote(f"cat >> {shlex.quote(str(tmp_path / 'posted.md'))}")
        words = ["model=mlp", "until=exported", f"output={tmp_path}", 'nightly.cron="* * * * *"', f"nightly.command={posted}"]
        with (tmp_path / "nightly.log").open("wb") as log:
            command = [sys.executable, "-m", "flows", "nightly", *words]
            nightly = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            yield nightly
        finally:
            nightly.terminate()
            nightly.wait(60)
    finally:
        server.terminate()
        server.wait(60)


def healthy(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def wait(met: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + PATIENCE
    while not met():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(1)


def asked(environment: dict[str, str], path: str, data: dict[str, Any]) -> Any:
    request = urllib.request.Request(f"{environment['PREFECT_API_URL']}/{path}", json.dumps(data).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def test_two_nights_by_cron_and_the_second_is_compared_with_the_first(
    tmp_path: Path, environment: dict[str, str], served: subprocess.Popen[bytes]
) -> None:
    posted = tmp_path / "posted.md"
    wait(lambda: posted.exists() and posted.read_text().count("# mlp: ") >= NIGHTS, served, tmp_path / "nightly.log")
    texts = [f"# mlp: {part}" for part in posted.read_text().split("# mlp: ")[1:]]
    runs = sorted(path.parent.name for path in (tmp_path / "runs").glob("*/changes.json") if not path.parent.is_symlink())
    assert texts[0].startswith("# mlp: as expected: 1 ok\n")
    assert "Since the previous run" not in texts[0]
    assert f"## Since the previous run (`{runs[0]}`)" in texts[1]
    assert "Nothing changed." in texts[1]

    def nights() -> list[dict[str, Any]]:
        found = asked(environment, "flow_runs/filter", {"flows": {"name": {"any_": ["nightly"]}}, "sort": "EXPECTED_START_TIME_ASC"})
        return list(found[:NIGHTS])

    # the summary is posted by the run itself, a moment before the server knows that it has ended
    wait(lambda: [night["state_type"] for night in nights()] == ["COMPLETED", "COMPLETED"], served, tmp_path / "nightly.log")
    assert all(night["auto_scheduled"] for night in nights())
    keys = {artifact["key"] for artifact in asked(environment, "artifacts/latest/filter", {})}
    assert {"shapeline-run-mlp", "shapeline-failures-mlp", "shapeline-matrix-mlp", "shapeline-progress-mlp", "shapeline-job-mlp-default",
            "shapeline-night-mlp"} <= keys  # fmt: skip
