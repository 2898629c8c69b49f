"""The nightly deployment on a real Prefect server: one run on request and one by its cron, compared with the run before."""

from __future__ import annotations

import base64
import json
import shlex
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.prefect_server import create_home, make_environment, serve, wait


@pytest.fixture
def environment(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of the server and of the nights, which share a warm process. Its socket needs a short path, and it ends with it."""
    state = tmp_path_factory.mktemp("night")
    create_home(tmp_path / "prefect")
    yield {**make_environment(tmp_path), "PREFECT_RUNNER_POLL_FREQUENCY": "2", "SHAPELINE_STATE": str(state)}
    for socket in state.glob("worker-*.sock"):
        socket.unlink()


@pytest.fixture
def served(tmp_path: Path, environment: dict[str, str]) -> Iterator[subprocess.Popen[bytes]]:
    """A server, and `shapeline nightly` with a run due every minute, whose summaries go to a file."""
    with serve(environment, tmp_path / "server.log", "flows", "server"):
        posted = shlex.quote(f"cat >> {shlex.quote(str(tmp_path / 'posted.md'))}")
        words = ["model=mlp", "until=exported", f"output={tmp_path}", 'nightly.cron="* * * * *"', "worker.keep_minutes=2",
                 f"nightly.command={posted}"]
        with (tmp_path / "nightly.log").open("wb") as log:
            command = [sys.executable, "-m", "flows", "nightly", *words]
            nightly = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            yield nightly
        finally:
            nightly.terminate()
            nightly.wait(60)


def asked(environment: dict[str, str], path: str, data: dict[str, Any], mine: bool = True) -> Any:
    """The answer of the server. mine: with the password, as the user who started it."""
    password = (Path(environment["SHAPELINE_STATE"]) / "server-auth").read_text().strip()
    headers = {"Content-Type": "application/json", "Origin": "https://evil.example"}
    headers |= {"Authorization": f"Basic {base64.b64encode(password.encode()).decode()}"} if mine else {}
    request = urllib.request.Request(f"{environment['PREFECT_API_URL']}/{path}", json.dumps(data).encode(), headers)
    for _ in range(20):
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            if error.code != 503:  # its database is locked by another request
                raise
            time.sleep(0.5)
    raise AssertionError(f"{path}: the server is busy for ever")


def read_run(environment: dict[str, str], run: str) -> dict[str, Any]:
    return dict(asked(environment, "flow_runs/filter", {"flow_runs": {"id": {"any_": [run]}}})[0])


def begin_next_of_schedule(environment: dict[str, str]) -> None:
    """Let the next night of the cron begin now instead of at a full minute."""
    waiting = {"flow_runs": {"state": {"type": {"any_": ["SCHEDULED"]}}}, "sort": "EXPECTED_START_TIME_ASC"}
    night = next(night for night in asked(environment, "flow_runs/filter", waiting) if night["auto_scheduled"])
    now = {"type": "SCHEDULED", "name": "Scheduled", "state_details": {"scheduled_time": datetime.now(UTC).isoformat()}}
    asked(environment, f"flow_runs/{night['id']}/set_state", {"state": now, "force": True})


def test_a_night_on_request_and_one_by_cron_that_is_compared_with_it(
    tmp_path: Path, environment: dict[str, str], served: subprocess.Popen[bytes]
) -> None:
    posted = tmp_path / "posted.md"
    wait(lambda: bool(asked(environment, "deployments/filter", {})), served, tmp_path / "nightly.log")
    (deployment,) = asked(environment, "deployments/filter", {})
    start = f"deployments/{deployment['id']}/create_flow_run"
    # As another local user.
    for path, data in ((start, {"parameters": {"suite": "zoo"}}), ("deployments/filter", {}), ("flow_runs/filter", {})):
        with pytest.raises(urllib.error.HTTPError) as refused:
            asked(environment, path, data, mine=False)
        assert refused.value.code == 401 and "access-control-allow-origin" not in {name.lower() for name in refused.value.headers}
    assert deployment["parameters"] == {} and "command" not in json.dumps(deployment)
    asked(environment, start, {"parameters": {}})  # not to wait for two minutes of the cron
    wait(lambda: posted.exists(), served, tmp_path / "nightly.log")
    hostile = asked(environment, start, {"parameters": {"suite": "../../evil.yaml"}})
    wait(lambda: read_run(environment, hostile["id"])["state_type"] in ("FAILED", "CRASHED"), served, tmp_path / "nightly.log")
    begin_next_of_schedule(environment)
    wait(lambda: posted.read_text().count("# mlp: ") >= 2, served, tmp_path / "nightly.log")
    texts = [f"# mlp: {part}" for part in posted.read_text().split("# mlp: ")[1:]]
    runs = sorted(path.parent.name for path in (tmp_path / "runs").glob("*/changes.json") if not path.parent.is_symlink())
    assert texts[0].startswith("# mlp: as expected: 1 ok\n")
    assert "Since the previous run" not in texts[0]
    assert f"## Since the previous run (`{runs[0]}`)" in texts[1]
    assert "Nothing changed." in texts[1]

    def nights() -> list[dict[str, Any]]:
        found = asked(environment, "flow_runs/filter", {"flows": {"name": {"any_": ["nightly"]}}, "sort": "EXPECTED_START_TIME_ASC"})
        # one night runs at a time: one that falls due during another request is cancelled
        return [night for night in found if night["id"] != hostile["id"] and night["state_type"] in ("COMPLETED", "FAILED", "CRASHED")][:2]

    # the summary is posted by the run itself, a moment before the server knows that it has ended
    wait(lambda: [night["state_type"] for night in nights()] == ["COMPLETED", "COMPLETED"], served, tmp_path / "nightly.log")
    assert any(night["auto_scheduled"] for night in nights())
    keys = {artifact["key"] for artifact in asked(environment, "artifacts/latest/filter", {})}
    assert {"shapeline-run-mlp", "shapeline-failures-mlp", "shapeline-matrix-mlp", "shapeline-progress-mlp", "shapeline-job-mlp-default",
            "shapeline-night-mlp"} <= keys  # fmt: skip
