"""Prefect's server: the settings that have to stand in the environment before prefect loads, and the check that nothing was lost."""

from __future__ import annotations

import os
import time
from uuid import UUID

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
