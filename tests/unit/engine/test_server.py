"""Which Prefect server the workers of a cluster report to."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from flows.config.document import Cluster
from flows.engine import server
from lowering.errors import InfraError


@pytest.mark.parametrize("address", ["tcp://head:8786", "ray://10.0.0.7:10001"])
def test_workers_elsewhere_need_a_server_that_they_can_reach(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with pytest.raises(InfraError, match="PREFECT_API_URL=http://HOST:4200/api"), server.share(Cluster(runner="dask", address=address)):
        pytest.fail("the run went on")


@pytest.mark.parametrize("address", [None, "auto", "tcp://127.0.0.1:8786", f"tcp://{platform.node()}:8786"])
def test_workers_here_can_have_the_runs_own(address: str | None) -> None:
    assert server._is_here(address)


def test_a_home_that_cannot_be_written_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = r"file/home: cannot be written: Not a directory \(use another folder: export PREFECT_HOME=FOLDER\)"
    with temporary_settings({PREFECT_HOME: tmp_path / "file/home"}, restore_defaults={PREFECT_API_URL}), pytest.raises(InfraError, match=said):
        server.check_home()
    with temporary_settings({PREFECT_HOME: tmp_path / "home"}, restore_defaults={PREFECT_API_URL}):
        server.check_home()
