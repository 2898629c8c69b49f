"""The process of the managed server: Prefect's server on a port of its own, until nobody has used it for a while."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import sqlite3
import sys
import threading
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from flows.engine import managed, server_state
from flows.engine.server_state import Standing
from lowering import clock

DATABASE = "prefect.db"  # in Prefect's home, unless its settings name another
SMALL = 32 << 20  # bytes of free pages that a database may hold
LOOK = 5.0  # seconds between two looks at whether the server is still wanted
Scope = MutableMapping[str, Any]


def main(arguments: Sequence[str]) -> None:
    """Serve. arguments: path of the state file, the open lock, the listening socket, minutes without use, digest of the code."""
    place, lock, idle, code = Path(arguments[0]), int(arguments[1]), float(arguments[3]), arguments[4]
    listener = socket.socket(fileno=int(arguments[2]))
    port = listener.getsockname()[1]
    url = f"http://127.0.0.1:{port}/api"
    # Its pages ask this address, and its services too.
    os.environ |= {"PREFECT_UI_API_URL": url, "PREFECT_SERVER_API_HOST": "127.0.0.1", "PREFECT_SERVER_API_PORT": str(port)}

    compact(Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser() / DATABASE)
    import uvicorn
    from prefect.server.api.server import create_app

    watched = Watched(create_app(final=True))
    serving = uvicorn.Server(uvicorn.Config(watched, log_level="warning", lifespan="on", timeout_graceful_shutdown=2))
    standing = Standing(url, port, os.getpid(), server_state.read_birth(os.getpid()) or 0, clock.read_boot(), code, idle)
    watch = threading.Thread(target=_watch, args=(serving, watched, standing, place, lock), daemon=True)
    watch.start()
    serving.run(sockets=[listener])
    if server_state.read() == standing:
        place.unlink(missing_ok=True)
    sys.stdout.flush()
    os._exit(0 if serving.started else 1)  # threads of the server's services may still wait for something


def compact(database: Path) -> None:
    """Return the free pages of an SQLite database to the disk, if they are most of it.

    Removing old runs only frees pages within the file.
    """
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"{database.as_uri()}?mode=rw", uri=True, timeout=1.0)) as connection:
        size, pages, free = (connection.execute(f"pragma {name}").fetchone()[0] for name in ("page_size", "page_count", "freelist_count"))
        if free > pages / 2 and free * size > SMALL:
            connection.execute("vacuum")


class Watched:
    """An ASGI application that knows when it was last used. last: time of the last request; open: requests and connections in progress."""

    def __init__(self, inner: Callable[[Scope, Any, Any], Awaitable[None]]):
        self.inner, self.last, self.open = inner, time.monotonic(), 0

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.inner(scope, receive, send)
            return
        self.open += 1
        self.last = time.monotonic()
        try:
            await self.inner(scope, receive, send)
        finally:
            self.open -= 1
            self.last = time.monotonic()


def _watch(serving: Any, watched: Watched, standing: Standing, place: Path, lock: int) -> None:
    """Tell the state when the server serves, and end it when it is no longer wanted."""
    while not serving.started:
        time.sleep(0.02)
    server_state.write(standing, place)
    os.close(lock)
    while not serving.should_exit:
        time.sleep(LOOK)
        stale = server_state.read() != standing  # removed, with its folder perhaps, or another server has taken its place
        idle = time.monotonic() - watched.last > 60 * standing.idle_minutes and not watched.open
        if (stale or idle) and _claim(place):
            os.kill(os.getpid(), signal.SIGTERM)  # as `stop` does
            time.sleep(managed.END)
            os._exit(1)


def _claim(place: Path) -> bool:
    """Take both locks until this process is gone, so that no run relies on it from now on. Return False if a run does, or is about to."""
    taken = []
    for suffix in (".users", ".lock"):
        try:
            handle = os.open(place.with_suffix(suffix), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            continue  # its folder is gone
        taken.append(handle)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            for handle in taken:
                os.close(handle)
            return False
    return True
