"""Which Prefect server the workers of a cluster report to."""

from __future__ import annotations

import platform

import pytest

from flows.config.document import Cluster
from flows.engine import server
from lowering.errors import InfraError


@pytest.mark.parametrize("address", ["tcp://head:8786", "ray://10.0.0.7:10001"])
def test_workers_elsewhere_need_a_server_that_they_can_reach(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)
    with pytest.raises(InfraError, match="PREFECT_API_URL=http://HOST:4200/api"), server.shared(Cluster(runner="dask", address=address)):
        pytest.fail("the run went on")


@pytest.mark.parametrize("address", [None, "auto", "tcp://127.0.0.1:8786", f"tcp://{platform.node()}:8786"])
def test_workers_here_can_have_the_runs_own(address: str | None) -> None:
    assert server._is_here(address)
