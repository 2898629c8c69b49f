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

from flows.engine import access, direct, managed
from tests.prefect_server import shapeline

SCRIPT = """
import sys
from flows import execution
from flows.config.plan import Plan
from flows.config.run import Run
from lowering.worker import client
from tests import toys

client.WARM = ("torch",)  # toys need no compilers
plan = Plan("toys", overrides=("suite=toys",))
execution.choose_server(plan)
execution.lower_run(Run(plan, (toys.job(),)))
print("imported:", "prefect" in sys.modules)
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A working directory of a user who has no server, and who sets no CI."""
    home = tmp_path_factory.mktemp("managed")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PREFECT_")]:
            patch.delenv(name)
        for name, value in {"CI": "", "SHAPELINE_STATE": str(home / "state"), "PREFECT_HOME": str(home / "prefect"),
                            "PYTHONPATH": str(Path.cwd())}.items():  # fmt: skip
            patch.setenv(name, value)
        yield home
        managed.stop(force=True)


def lower(home: Path) -> list[str]:
    done = subprocess.run([sys.executable, "-c", SCRIPT], cwd=home, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def ask(path: str, data: Any) -> Any:
    found = managed.read()
    assert found is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(access.CLIENT, access.read_password() or "")
        return direct._ask(found.url, path, data)


def test_an_unchanged_run_tells_the_server_of_the_first_one_the_same_without_prefect(home: Path) -> None:
    lines = {"first": lower(home), "again": lower(home)}
    assert [said[-1] for said in lines.values()] == ["imported: True", "imported: False"]
    found = managed.read()
    assert found and managed.answers(found)
    told = {}
    for name, said in lines.items():
        page = said[-2].removeprefix("in Prefect: ")
        assert page.startswith(f"{found.page}/runs/flow-run/")
        (run,) = ask("flow_runs/filter", {"flow_runs": {"id": {"any_": [page.rpartition("/")[2]]}}})
        artifacts = ask("artifacts/filter", {"artifacts": {"flow_run_id": {"any_": [run["id"]]}}})
        tasks = ask("task_runs/filter", {"flow_runs": {"id": {"any_": [run["id"]]}}})
        told[name] = {artifact["key"]: artifact["type"] for artifact in artifacts}, run["state"]["type"], run["state"]["message"]
        assert {task["state_type"] for task in tasks} == {"COMPLETED"}
        assert sorted(task["name"] for task in tasks) == (["from the store (1)"] if name == "again" else ["toy--default"])
    keys = {f"shapeline-{name}-toys": kind for name, kind in
            {"run": "table", "failures": "markdown", "matrix": "image", "progress": "progress"}.items()}  # fmt: skip
    for name, own in (("first", {"shapeline-job-toy-default": "markdown"}), ("again", {"shapeline-taken-toys-1": "markdown"})):
        assert told[name] == ({**keys, **own}, "COMPLETED", "1 job: 1 ok")
    (table,) = ask("artifacts/filter", {"artifacts": {"key": {"any_": ["shapeline-run-toys"]}}, "sort": "CREATED_DESC", "limit": 1})
    assert [row["outcome"] for row in json.loads(table["data"])] == ["ok"]


def test_it_asks_for_the_password_shows_its_pages_and_leaves_nothing(home: Path) -> None:
    found = managed.ensure(30.0)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{found.url}/admin/version", timeout=30)
    with urllib.request.urlopen(f"{found.page}/ui-settings", timeout=30) as answer:
        assert json.load(answer)["api_url"] == found.url
    status = shapeline(dict(os.environ), "server", "status")
    assert status.returncode == 0 and found.page in status.stdout and "after 30 minutes without use" in status.stdout
    assert shapeline(dict(os.environ), "server", "stop").stdout == f"stopped {found.url}\n"
    assert managed.read_birth(found.pid) is None and not managed.locate_state().exists()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", found.port))
    assert shapeline(dict(os.environ), "server", "status").returncode == 1
