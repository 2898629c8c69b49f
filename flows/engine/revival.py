"""Supervision of Prefect's server during a run.

An embedded or managed server that dies is restarted on the same port; an embedded one exits with the run's process. A remote server that
does not answer ends the run.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from flows.engine import managed
from flows.engine.managed import Starting
from flows.engine.server import check_home
from flows.engine.server_state import Standing
from flows.watching import run_watcher
from lowering.errors import InfraError, Problem, ShapelineError
from lowering.worker import client

if TYPE_CHECKING:
    from prefect.server.api.server import SubprocessASGIServer

LOOK = 2.0  # seconds between two checks of the server
SILENCE = 60.0  # seconds without an answer after which a server counts as lost; Prefect's client retries for about as long
REVIVALS = 10  # maximum number of restarts of an embedded server in one run


class ServerLost(InfraError):
    """Error of a Prefect server that is lost permanently."""


@contextmanager
def supervise(stop: Callable[[Problem], None]) -> Iterator[None]:
    """Keep the run's server running while the block runs. `stop` is called with the cause if the server is lost permanently."""
    with run_watcher(partial(_watch, stop)):
        yield


def _watch(stop: Callable[[Problem], None], ended: threading.Event) -> None:
    from prefect.settings import PREFECT_API_URL

    revived, answered, leashed = 0, 0.0, 0
    remote = PREFECT_API_URL.value()
    with ExitStack() as leashes:
        while not ended.wait(LOOK):
            server = find_embedded()
            if server is not None and (process := server.server_process) is not None:
                if process.poll() is not None:
                    if revived == REVIVALS:
                        return stop(_make_problem(server.api_url, f"died {revived + 1} times"))
                    try:
                        check_home()
                    except InfraError as error:
                        return stop(error.problems[0])
                    revived += 1
                    # On the same port and database, so that clients reach it when they retry.
                    server.server_process = process = server._run_uvicorn_command()
                if process.pid != leashed:
                    leashed = process.pid
                    leashes.enter_context(_end_with_this_process(leashed))
            elif (used := managed.get_used()) is not None:
                if (standing := used.found) is not None and not standing.is_alive:
                    if revived == REVIVALS:
                        return stop(_make_problem(standing.url, f"died {revived + 1} times"))
                    revived += 1
                    if (problem := _restart(used, standing)) is not None:
                        return stop(problem)
            elif remote and server is None:
                if _is_listening(remote):
                    answered = time.monotonic()
                elif answered and time.monotonic() - answered > SILENCE:  # if it never answered, a proxy may be in between
                    return stop(_make_problem(remote, f"has not answered for {SILENCE:.0f} s"))
    return None


def _restart(used: Starting, dead: Standing) -> Problem | None:
    """Start the managed server again where clients look for it; return the problem if it cannot."""
    try:
        used.found = managed.ensure(dead.idle_minutes, dead.port)
    except (ShapelineError, OSError) as error:
        return _make_problem(dead.url, f"died, and cannot be started again: {error}")
    if used.found.port != dead.port:
        return _make_problem(dead.url, "died, and another process has taken its port")
    return None


@contextmanager
def _end_with_this_process(pid: int) -> Iterator[None]:
    """Make process `pid` end when this process does, however it ends: Prefect's server would otherwise survive a kill -9."""
    holder = subprocess.Popen(["/bin/sh", "-c", 'read -r _; kill "$0"', str(pid)], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              start_new_session=True)
    try:
        yield
    finally:
        holder.kill()
        holder.communicate()


def find_embedded() -> SubprocessASGIServer | None:
    """Return the server that this process started, if any."""
    if "prefect.server.api.server" not in sys.modules:  # importing it takes seconds, and no server was started without it
        return None
    from prefect.server.api.server import SubprocessASGIServer

    return SubprocessASGIServer._instances.get(None)


def end_embedded() -> None:
    """End the jobs and the server of this process, for an exit that runs no exit handlers."""
    client.stop()
    server = find_embedded()
    if server is not None and (process := server.server_process) is not None and process.poll() is None:
        process.terminate()


def _is_listening(address: str) -> bool:
    parts = urlsplit(address)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    with suppress(OSError), socket.create_connection((parts.hostname, port), timeout=LOOK):
        return True
    return False


def _make_problem(address: str, what: str) -> Problem:
    return Problem(f"Prefect's server {address}", what, "restart it and repeat the command: finished jobs are kept")
