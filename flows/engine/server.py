"""Prefect's server: the settings that have to stand in the environment before prefect loads, which server the workers of a cluster report
to, and the check that nothing was lost."""

from __future__ import annotations

import os
import platform
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit
from uuid import UUID

from flows.config.document import Cluster
from lowering.errors import InfraError, Problem

# Defaults only: whatever the user has set stays. With PREFECT_API_URL set, that server is used and none is started.
SETTINGS = {
    "PREFECT_SERVER_EPHEMERAL_ENABLED": "true",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "DO_NOT_TRACK": "1",
}
# The terminal shows the table; the server gets the logs all the same.
QUIET = {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL"}
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


def configure() -> None:
    """Set the defaults; to be called before the first import of prefect."""
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    if "PREFECT_LOGGING_LEVEL" not in os.environ:
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)


def check_home() -> None:
    """InfraError when the run would start a server of its own and Prefect's home, which holds its database, cannot be written."""
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME

    if PREFECT_API_URL.value():
        return
    home = PREFECT_HOME.value()
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=home):
            pass
    except OSError as error:
        fix = "name another: export PREFECT_HOME=FOLDER"
        raise InfraError(Problem(f"Prefect's home {home}", f"cannot be written: {error.strerror}", fix)) from error


@contextmanager
def shared(cluster: Cluster) -> Iterator[None]:
    """Has the workers of a cluster report to the run's own server inside: else each would start one of its own.

    InfraError when they cannot reach it.
    """
    from prefect.settings import PREFECT_API_URL, temporary_settings

    if cluster.runner == "threads" or PREFECT_API_URL.value():
        yield
        return
    if not _is_here(cluster.address):
        fix = "start one there (prefect server start --host 0.0.0.0) and name it: export PREFECT_API_URL=http://HOST:4200/api"
        raise InfraError(Problem(f"cluster.address={cluster.address}", "workers on other machines need a Prefect server that they can reach", fix))
    from prefect.server.api.server import SubprocessASGIServer  # here: seconds that a run with a server elsewhere need not spend

    own = SubprocessASGIServer()
    own.start()
    os.environ["PREFECT_API_URL"] = own.api_url  # for processes that the cluster starts
    try:
        with temporary_settings(updates={PREFECT_API_URL: own.api_url}):  # for tasks, which bring the settings of their flow
            yield
    finally:
        del os.environ["PREFECT_API_URL"]


def _is_here(address: str | None) -> bool:
    """Whether a cluster at `address` (None, auto: one that Dask or Ray makes or finds here) is on this machine."""
    return address in (None, "auto", "local") or urlsplit(str(address)).hostname in ("localhost", "127.0.0.1", "::1", platform.node())


def missing_records(flow_run: UUID, submitted: int, patience: float = 60.0) -> int:
    """How many ended tasks of a flow run the server still has not recorded after `patience` seconds: an embedded server loses
    what is on its way when the process ends."""
    from prefect.client.orchestration import get_client

    runs = {"flow_runs": {"id": {"any_": [str(flow_run)]}}, "task_runs": {"state": {"type": {"any_": list(ENDED)}}}}
    end = time.monotonic() + patience
    with get_client(sync_client=True) as client:
        while True:
            recorded = int(client.request("POST", "/task_runs/count", json=runs).json())
            if recorded >= submitted or time.monotonic() > end:
                return max(0, submitted - recorded)
            time.sleep(0.25)
