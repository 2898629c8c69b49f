"""Prefect's server while a run goes on: an embedded one that dies is started again where it was, and does not outlive the run's process;
one that stays silent ends the run."""

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

from flows.watching import watching
from lowering.errors import InfraError, Problem

if TYPE_CHECKING:
    from prefect.server.api.server import SubprocessASGIServer

LOOK = 2.0  # seconds between two looks at the server
SILENCE = 60.0  # seconds without an answer after which a server counts as gone: Prefect's client asks again for about as long
REVIVALS = 10  # of an embedded server in one run


class ServerLost(InfraError):
    """Prefect's server is gone for good."""



@contextmanager
def watched(stop: Callable[[Problem], None]) -> Iterator[None]:
    """Keeps the run's server going inside; `stop` is told why when it is gone for good."""
    with watching(partial(_watch, stop)):
        yield


def _watch(stop: Callable[[Problem], None], ended: threading.Event) -> None:
    from prefect.settings import PREFECT_API_URL

    revived, answered, leashed = 0, 0.0, 0
    remote = PREFECT_API_URL.value()
    with ExitStack() as leashes:
        while not ended.wait(LOOK):
            server = embedded()
            if server is not None and (process := server.server_process) is not None:
                if process.poll() is not None:
                    if revived == REVIVALS:
                        return stop(_gone(server.api_url, f"died {revived + 1} times"))
                    revived += 1
                    # At the same port, on the same database: clients ask again and find it.
                    server.server_process = process = server._run_uvicorn_command()
                if process.pid != leashed:
                    leashed = process.pid
                    leashes.enter_context(_leash(leashed))
            elif remote and server is None:
                if _listens(remote):
                    answered = time.monotonic()
                elif answered and time.monotonic() - answered > SILENCE:  # where it never did, there may be a proxy in between
                    return stop(_gone(remote, f"has not been there for {SILENCE:.0f} s"))
    return None


@contextmanager
def _leash(pid: int) -> Iterator[None]:
    """Process `pid` ends when this process does, however that ends: Prefect's server would stay for ever after a kill -9."""
    holder = subprocess.Popen(["/bin/sh", "-c", 'read -r _; kill "$0"', str(pid)], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              start_new_session=True)
    try:
        yield
    finally:
        holder.kill()
        holder.communicate()


def embedded() -> SubprocessASGIServer | None:
    """The server that this process has started, if any."""
    if "prefect.server.api.server" not in sys.modules:  # loading it takes seconds, and whoever has not loaded it has started none
        return None
    from prefect.server.api.server import SubprocessASGIServer

    return SubprocessASGIServer._instances.get(None)


def _listens(address: str) -> bool:
    parts = urlsplit(address)
    with suppress(OSError), socket.create_connection((parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)), timeout=LOOK):
        return True
    return False


def _gone(address: str, what: str) -> Problem:
    return Problem(f"Prefect's server {address}", what, "start it again and give the same command: what has ended is kept")
