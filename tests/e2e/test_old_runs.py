"""Prefect's database forgets flow runs that ended long ago."""

from __future__ import annotations

import json
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.engine import server


@pytest.fixture
def address(prefect: Mapping[str, str]) -> Iterator[str]:
    with temporary_settings(updates={PREFECT_API_URL: prefect["PREFECT_API_URL"]}):
        yield prefect["PREFECT_API_URL"]


def ask(address: str, path: str, data: Mapping[str, Any]) -> Any:
    request = urllib.request.Request(f"{address}/{path}", json.dumps(data).encode(), {"Content-Type": "application/json"})
    for _ in range(20):
        with suppress(urllib.error.HTTPError), urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)
        time.sleep(0.5)  # the database is busy
    raise AssertionError(f"{address}/{path} gives no answer")


def test_old_flow_runs_are_removed_and_later_ones_stay(address: str, prefect: Mapping[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    flow = ask(address, "flows/", {"name": "old-runs"})["id"]
    made = {}
    for days in (3, 9):
        made[days] = ask(address, "flow_runs/", {"flow_id": flow, "state": {"type": "COMPLETED"}})["id"]
        with closing(sqlite3.connect(Path(prefect["PREFECT_HOME"]) / "prefect.db", timeout=60)) as database, database:
            ended = datetime.now(UTC) - timedelta(days=days)
            done = database.execute("update flow_run set end_time = ? where id = ?", (f"{ended:%Y-%m-%d %H:%M:%S}", made[days]))
            assert done.rowcount == 1

    def find() -> set[str]:
        return {run["id"] for run in ask(address, "flow_runs/filter", {"flows": {"id": {"any_": [flow]}}})}

    server.remove_old_runs()  # without `keep_runs` nothing is removed
    assert find() == set(made.values())
    monkeypatch.setenv(f"{server.VACUUM}ENABLED", "")
    monkeypatch.delenv(f"{server.VACUUM}ENABLED")
    monkeypatch.delenv(f"{server.VACUUM}RETENTION_PERIOD", raising=False)
    server.keep_runs(7.0)
    with temporary_settings():  # reads the environment again
        server.remove_old_runs()
    assert find() == {made[3]}
