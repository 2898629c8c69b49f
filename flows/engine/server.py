"""Prefect's server: settings that must be in the environment before prefect is imported, the server that cluster workers report to, and
a check that no task run was lost."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

from flows.config.document import DAY, Cluster
from lowering import files
from lowering.errors import InfraError, Problem

# Defaults: settings of the user take precedence. If PREFECT_API_URL is set, that server is used and none is started.
SETTINGS = {
    "PREFECT_SERVER_EPHEMERAL_ENABLED": "true",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "DO_NOT_TRACK": "1",
}
# The terminal shows the table of jobs instead; the server still receives the logs.
QUIET = {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL"}
ROOM = 8 << 20  # bytes of a new database and its journal
VACUUM = "PREFECT_SERVER_SERVICES_DB_VACUUM_"  # prefix of the settings of the service that removes old flow runs from the database
REMOVED = 20  # old flow runs that a run with an embedded server removes at its end
URL = "PREFECT_API_URL"
ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")


@cache
def configure() -> None:
    """Set the defaults, and a home that can be written. Must be called before the first import of prefect."""
    if not (given := os.environ.get("PREFECT_HOME")) and not os.environ.get("PREFECT_API_URL"):
        try:
            _try_home(Path("~/.prefect").expanduser())
        except (OSError, RuntimeError) as error:  # no home, or one that is read-only or full
            home = Path(tempfile.gettempdir()) / f"shapeline-prefect-{os.geteuid()}"
            with suppress(OSError):
                home.mkdir(mode=0o700, exist_ok=True)
            if not home.is_symlink() and home.is_dir() and home.stat().st_uid == os.geteuid():
                why = f"~/.prefect cannot be written ({error})"
                print(f"shapeline: {why}: Prefect's database is in {home}; PREFECT_HOME names another folder", file=sys.stderr)
                os.environ["PREFECT_HOME"] = given or str(home)
    for name, value in SETTINGS.items():
        os.environ.setdefault(name, value)
    if "PREFECT_LOGGING_LEVEL" not in os.environ:
        for name, value in QUIET.items():
            os.environ.setdefault(name, value)


def keep_runs(days: float | None) -> None:
    """Let servers that this process starts remove flow runs that ended more than `days` ago (None: no flow runs) from the database.

    Settings of the user take precedence. Must be called before the first import of prefect.
    """
    if days is not None:
        os.environ.setdefault(f"{VACUUM}ENABLED", "events,flow_runs")
        os.environ.setdefault(f"{VACUUM}RETENTION_PERIOD", f"{days * DAY:.0f}")


def remove_old_runs() -> None:
    """Remove a few of the flow runs that have ended before the time set by `keep_runs`: an embedded server does not do it by itself."""
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.settings import get_current_settings

    settings = get_current_settings().server.services.db_vacuum
    if "flow_runs" not in settings.enabled_vacuum_types:
        return
    before = (datetime.now(UTC) - settings.retention_period).isoformat()
    with get_client(sync_client=True) as client, suppress(httpx.HTTPError):  # the next run tries again
        old = client.request("POST", "/flow_runs/filter", json={"flow_runs": {"end_time": {"before_": before}}, "limit": REMOVED}).json()
        for run in old:
            client.request("DELETE", "/flow_runs/{id}", path_params={"id": run["id"]})


def check_home(own: bool = False) -> None:
    """Check that Prefect's home, which holds the database of a server of this user, is writable. Raises InfraError if it is not.

    Does nothing if PREFECT_API_URL names a server. own: whether that is the managed one.
    """
    if (given := os.environ.get("PREFECT_HOME")) and (own or find_named_server() is None):
        try_home(Path(given).expanduser())  # before Prefect is imported, which takes seconds
    from prefect.settings import PREFECT_API_URL, PREFECT_HOME

    if PREFECT_API_URL.value() and not own:
        return
    try_home(PREFECT_HOME.value())


def try_home(home: Path) -> None:
    """Check that a home of Prefect is writable. Raises InfraError if it is not."""
    try:
        _try_home(home)
    except OSError as error:
        fix = "use another folder: export PREFECT_HOME=FOLDER"
        raise InfraError(Problem(f"Prefect's home {home}", f"cannot be written: {error.strerror}", fix)) from error


def _try_home(home: Path) -> None:
    """Write as much to a home as a new database takes. Raises OSError."""
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=home) as file:
        file.write(bytes(ROOM))
        file.flush()


@contextmanager
def ignore_foreign_key(own: bool = False) -> Iterator[None]:
    """Ignore PREFECT_API_KEY for the block unless a server is named: it is for another server, and makes calls to an embedded one slow.

    own: whether PREFECT_API_URL is the managed server's.
    """
    from prefect.settings import PREFECT_API_KEY, PREFECT_API_URL, temporary_settings

    if (PREFECT_API_URL.value() and not own) or not PREFECT_API_KEY.value():
        yield
        return
    held = os.environ.pop("PREFECT_API_KEY", None)
    try:
        with temporary_settings(restore_defaults={PREFECT_API_KEY}):
            yield
    finally:
        if held is not None:
            os.environ["PREFECT_API_KEY"] = held


@contextmanager
def share(cluster: Cluster) -> Iterator[None]:
    """Make cluster workers report to the run's embedded server while the block runs. Otherwise each worker would start its own.

    Raises InfraError if the workers cannot reach it.
    """
    from prefect.settings import PREFECT_API_URL, temporary_settings

    if cluster.runner == "threads" or PREFECT_API_URL.value():
        yield
        return
    if not _is_here(cluster.address):
        fix = "start one there (prefect server start --host 0.0.0.0) and set its URL: export PREFECT_API_URL=http://HOST:4200/api"
        cause = "workers on other machines need a Prefect server that they can reach"
        raise InfraError(Problem(f"cluster.address={cluster.address}", cause, fix))
    from prefect.server.api.server import SubprocessASGIServer  # imported here: it takes seconds, and other runs do not need it

    own = SubprocessASGIServer()
    own.start()
    os.environ["PREFECT_API_URL"] = own.api_url  # for processes that the cluster starts
    try:
        with temporary_settings(updates={PREFECT_API_URL: own.api_url}):  # for tasks, which inherit the settings of their flow
            yield
    finally:
        del os.environ["PREFECT_API_URL"]


def _is_here(address: str | None) -> bool:
    """Return whether the cluster at `address` is on this machine. None and auto mean that Dask or Ray starts or finds one here."""
    return address in (None, "auto", "local") or urlsplit(str(address)).hostname in ("localhost", "127.0.0.1", "::1", platform.node())


def make_link(flow_run: UUID) -> str | None:
    """Return the address of a flow run in the pages of the server; None for an embedded one, which ends with the run."""
    from prefect.settings import PREFECT_API_URL, PREFECT_UI_URL

    if not PREFECT_API_URL.value() or not (pages := PREFECT_UI_URL.value()):
        return None
    return f"{str(pages).rstrip('/')}/runs/flow-run/{flow_run}"


def count_missing_records(flow_run: UUID, submitted: int, patience: float = 60.0) -> int:
    """Return how many ended tasks of a flow run the server has not recorded after `patience` seconds.

    An embedded server loses the events in flight when the process ends.
    """
    from prefect.client.orchestration import get_client

    runs = {"flow_runs": {"id": {"any_": [str(flow_run)]}}, "task_runs": {"state": {"type": {"any_": list(ENDED)}}}}
    end = time.monotonic() + patience
    with get_client(sync_client=True) as client:
        while True:
            recorded = int(client.request("POST", "/task_runs/count", json=runs).json())
            if recorded >= submitted or time.monotonic() > end:
                return max(0, submitted - recorded)
            time.sleep(0.25)


def find_named_server() -> str | None:
    """Return the URL of the server that the user named, in the environment or in a file of Prefect; None if there is none.

    Prefect itself reads its files, and is imported for that only if they seem to name a server.
    """
    if given := os.environ.get(URL):
        return given
    try:
        home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
        profiles = tomllib.loads(files.read_text(Path(os.environ.get("PREFECT_PROFILES_PATH") or home / "profiles.toml")))
        active = os.environ.get("PREFECT_PROFILE") or profiles.get("active")
        named = URL in profiles.get("profiles", {}).get(active, {})
    except (RuntimeError, tomllib.TOMLDecodeError, AttributeError):
        named = True
    places = (".env", "prefect.toml", "pyproject.toml")
    words = (URL, "[api]", "api.url", "prefect.api")
    if not named and not any(word in files.read_text(Path(place)) for place in places for word in words):
        return None
    from prefect.settings import PREFECT_API_URL

    return str(PREFECT_API_URL.value() or "") or None
