"""Runs that share the managed server: Prefect's own, started by the first run."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from flows.engine import access, direct, managed, server_state
from tests.prefect_server import create_home, shapeline

SCRIPT = """
import sys
from flows import execution
from flows.config.document import Limits, Worker
from flows.config.plan import Plan
from flows.config.run import Run
from lowering.worker import client
from tests import toys

client.WARM = ("torch",)  # toys need no compilers
way, cached, imported = sys.argv[1:]
plan = Plan("toys", limits=Limits(retries=0), overrides=("suite=toys", way), config={"cache": cached == "cached"},
            worker=Worker(keep_minutes=0))
execution.choose_server(plan)
if imported == "imported":
    import prefect
execution.lower_run(Run(plan, (toys.job(way),)))
print("imported:", "prefect" in sys.modules)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory of a user who has no server, and who sets no CI."""
    home = tmp_path_factory.mktemp("managed")
    create_home(home / "prefect")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PREFECT_")]:
            patch.delenv(name)
        for name, value in {"CI": "", "SHAPELINE_STATE": str(home / "state"), "PREFECT_HOME": str(home / "prefect"),
                            "PYTHONPATH": str(Path.cwd())}.items():  # fmt: skip
            patch.setenv(name, value)
        yield home
        managed.stop(force=True)


def lower(home: Path, way: str, cached: str, imported: str = "") -> list[str]:
    done = subprocess.run([sys.executable, "-c", SCRIPT, way, cached, imported], cwd=home, capture_output=True, text=True, timeout=300,
                          check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def ask(path: str, data: Any) -> Any:
    found = server_state.read()
    assert found is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(access.CLIENT, access.read_password() or "")
        return direct._ask(found.url, path, data)


def test_a_run_without_prefect_reports_the_same_as_a_flow(home: Path) -> None:
    lines = {"flow": lower(home, "ok", "cached", "imported"), "alone": lower(home, "ok", "not cached"),
             "again": lower(home, "ok", "cached")}
    assert [said[-1] for said in lines.values()] == ["imported: True", "imported: False", "imported: False"]
    found = server_state.read()
    assert found and managed.is_answering(found)
    pages = {}
    for name, said in lines.items():
        page = said[-2].removeprefix("in Prefect: ")
        assert page.startswith(f"{found.page}/runs/flow-run/")
        (run,) = ask("flow_runs/filter", {"flow_runs": {"id": {"any_": [page.rpartition("/")[2]]}}})
        artifacts = ask("artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}})
        tasks = ask("task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})
        pages[name] = {artifact["key"]: artifact["type"] for artifact in artifacts}, run["state"]["type"], run["state"]["message"]
        assert {task["state_type"] for task in tasks} == {"COMPLETED"}
        assert sorted(task["name"] for task in tasks) == (["from the store (1)"] if name == "again" else ["toy--default"])
    keys = {f"shapeline-{name}-toys": kind for name, kind in
            {"run": "table", "failures": "markdown", "matrix": "image", "progress": "progress"}.items()}  # fmt: skip
    page = {"shapeline-job-toy-default": "markdown"}
    for name, own in (("flow", page), ("alone", page), ("again", {"shapeline-taken-toys-1": "markdown"})):
        assert pages[name] == ({**keys, **own}, "COMPLETED", "1 job: 1 ok")
    (table,) = ask("artifacts/filter", {"artifacts": {"key": {"any_": ["shapeline-run-toys"]}}, "sort": "CREATED_DESC", "limit": 1})
    assert [row["outcome"] for row in json.loads(table["data"])] == ["ok"]


def test_a_single_job_without_a_verdict_is_tried_again_by_the_flow(home: Path) -> None:
    said = lower(home, "disk full", "not cached")
    assert said[-1] == "imported: True"
    assert "1 job: 1 infra" in "\n".join(said)


def test_it_asks_for_the_password_shows_its_pages_and_leaves_nothing(home: Path) -> None:
    found = managed.ensure(30.0)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{found.url}/admin/version", timeout=30)
    with urllib.request.urlopen(f"{found.page}/ui-settings", timeout=30) as answer:
        assert json.load(answer)["api_url"] == found.url
    status = shapeline(dict(os.environ), "server", "status")
    assert status.returncode == 0 and found.page in status.stdout and "after 30 minutes without use" in status.stdout
    assert shapeline(dict(os.environ), "server", "stop").stdout == f"stopped {found.url}\n"
    assert server_state.read_birth(found.pid) is None and not server_state.locate_state().exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", found.port))
    assert shapeline(dict(os.environ), "server", "status").returncode == 1
