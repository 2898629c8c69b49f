"""The managed server: a Prefect server of this user on this machine that stays between runs, and ends when nobody has used it for a while.

Its state file (`server_state`), one per user, machine and Prefect home, names the process and its address. The kernel releases the locks of
a process that ends: `.lock` is held by a process that starts or stops the server, `.users` is shared by the runs that need the server.
Prefect is not imported here.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path
from typing import Any

from flows.engine import access, server, server_state
from flows.engine.server_state import Standing
from lowering import files, trust
from lowering.errors import ConfigError, InfraError, Problem

ROOT = Path(__file__).resolve().parents[2]  # of the packages `flows` and `lowering`
PATIENCE = 180.0  # seconds for a start on a busy machine
ANSWER = 10.0  # seconds for an answer to a request
END = 15.0  # seconds for an end without force
TICK = 0.05
SETTINGS = ("PREFECT_SERVER_", "PREFECT_API_DATABASE_", "PREFECT_HOME", "PREFECT_PROFILE", "PREFECT_UI_")  # prefixes of variables
_BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from flows.engine import serving; serving.main(sys.argv[2:])"


_held: dict[int, int] = {}  # by pid, the open file of the lock by which this process uses the server
_starting: dict[int, Starting] = {}  # by pid, the server that this process uses


def get_used() -> Starting | None:
    """Return the managed server that this process uses, if any."""
    return _starting.get(os.getpid())


def wait() -> None:
    """Wait until the managed server that this process uses, if any, answers. Raises InfraError."""
    if (starting := get_used()) is not None:
        starting.wait()


def use(idle_minutes: float) -> None:
    """Use the managed server until this process ends: find it, or start it. Prefect's clients of this process will report to it.

    It may not answer yet: `wait` waits for it. Raises ConfigError, InfraError or OSError if it cannot be used. Must be called before the
    first import of prefect.
    """
    if os.getpid() in _starting:
        return
    place = _prepare()
    password = access.make_password()
    if os.getpid() not in _held:
        handle = _open(place, ".users")
        fcntl.flock(handle, fcntl.LOCK_SH)  # a server that is about to end holds it until it is gone
        _held[os.getpid()] = handle
    starting = Starting(place, password, idle_minutes)
    starting.adopt()
    _starting[os.getpid()] = starting


def ensure(idle_minutes: float, port: int = 0) -> Standing:
    """Return the managed server, started if it does not run. port: the one to prefer. Raises InfraError."""
    return Starting(_prepare(), access.make_password(), idle_minutes, port).wait()


class Starting:
    """A server that was found, or is being started, and may not answer yet.

    url: of its API; None while another process is about to start it.
    """

    def __init__(self, place: Path, password: str, idle_minutes: float, port: int = 0):
        self.place, self.password, self.idle, self.port = place, password, idle_minutes, port
        self.process: subprocess.Popen[bytes] | None = None
        self.url: str | None = None
        self.end = time.monotonic() + PATIENCE
        self.found = self._look()

    def adopt(self) -> None:
        """Let Prefect's clients of this process use the server, as soon as its address is known. Raises InfraError."""
        os.environ[server.URL] = self.url or self.wait().url
        os.environ[access.CLIENT] = self.password
        os.environ.pop(access.KEY, None)  # it is for another server

    def wait(self) -> Standing:
        """Wait until the server answers. Raises InfraError."""
        while self.found is None:
            if time.monotonic() > self.end:
                raise self._fail(f"did not answer within {PATIENCE:.0f} s")
            if self.process is not None and (code := self.process.poll()) is not None:
                raise self._fail(f"ended with {code} when it started")
            time.sleep(TICK)
            self.found = self._look() if self.process is None else self._read_started()
        return self.found

    def _look(self) -> Standing | None:
        """Return the server that runs; start one and return None if none does. Return None if another process is about to start one."""
        lock = _open(self.place, ".lock")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        try:
            found = server_state.read()
            if found is not None and found.is_alive:
                if found.code == _digest_code() and _is_answering(found, self.password):
                    self.url = found.url
                    return found
                _replace(found, self.place)
            self._start(lock, self.port or (found.port if found else 0))
        finally:
            os.close(lock)  # the new process has it too, and lets go of it when it serves
        return None

    def _read_started(self) -> Standing | None:
        found = server_state.read()
        if self.process is None or found is None or found.pid != self.process.pid:
            return None
        self.process.returncode = 0  # it outlives this process, and Popen would warn about that
        return found

    def _start(self, lock: int, wanted: int) -> None:
        """Start the server. It gets a socket that listens already, so that its address is known, and clients wait for its answer."""
        server.try_home(Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser())
        paths = [os.path.realpath(path) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
        environment = {**os.environ, **server.SETTINGS, **access.CLOSED, access.SERVER: self.password, access.CLIENT: self.password,
                       "PYTHONPATH": os.pathsep.join(paths)}  # fmt: skip
        for name in (server.URL, access.KEY):
            environment.pop(name, None)
        log = os.open(self.place.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with _bind(wanted) as listener:
            given = [str(self.place), str(lock), str(listener.fileno()), str(self.idle), _digest_code()]
            try:
                self.process = subprocess.Popen(
                    [sys.executable, "-P", "-c", _BOOT, str(ROOT), *given], pass_fds=(lock, listener.fileno()), cwd="/", env=environment,
                    stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)  # fmt: skip
            finally:
                os.close(log)
            self.url = f"http://127.0.0.1:{listener.getsockname()[1]}/api"

    def _fail(self, cause: str) -> InfraError:
        log = self.place.with_suffix(".log")
        said = files.read_text(log)[-4000:]
        return InfraError(Problem("Prefect's managed server", cause, f"see {log}, or use one for this run: server=embedded"), said)


def stop(force: bool = False) -> Standing | None:
    """Stop the server and return it; None if none runs. Raises InfraError if a run uses it, unless it is forced."""
    place = _prepare()
    with _hold_lock(place):
        found = server_state.read()
        if found is not None and found.is_alive:
            if not force and not _is_free(place):
                raise InfraError(Problem(f"Prefect's server {found.url}", "is used by a run", "wait until it ends, or use --force"))
            _end(found)
        else:
            found = None
        place.unlink(missing_ok=True)
    return found


def is_in_use() -> bool:
    """Return whether a run uses the server."""
    return not _is_free(_prepare())


def is_answering(found: Standing) -> bool:
    return _is_answering(found, access.read_password() or "")


def _prepare() -> Path:
    """Return the path of the state file, whose folder exists. Raises ConfigError if it cannot be made."""
    try:
        place = server_state.locate_state()
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except (OSError, RuntimeError) as error:
        fix = f"name a folder: export {trust.STATE}=DIR"
        raise ConfigError(Problem("the state of Shapeline", f"has no place: {error}", fix)) from error
    return place


def _open(place: Path, suffix: str) -> int:
    return os.open(place.with_suffix(suffix), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


@contextmanager
def _hold_lock(place: Path) -> Iterator[None]:
    """Hold the lock of who starts and stops the server. Raises InfraError if another process does not let go of it."""
    lock = _open(place, ".lock")
    end = time.monotonic() + PATIENCE
    try:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > end:
                    raise InfraError(Problem("Prefect's managed server", "is being started by a process that does not end")) from None
            time.sleep(TICK)
        yield
    finally:
        os.close(lock)


def _is_free(place: Path) -> bool:
    """Return whether no process but this one uses the server."""
    handle = _open(place, ".users")
    own = _held.get(os.getpid())
    try:
        if own is not None:
            fcntl.flock(own, fcntl.LOCK_UN)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False
    finally:
        os.close(handle)
        if own is not None:
            fcntl.flock(own, fcntl.LOCK_SH)


def _replace(found: Standing, place: Path) -> None:
    """End a server of another version, or one that does not answer. Raises InfraError if a run uses it."""
    if not _is_free(place):
        cause = "does not answer, or is of another version or environment, and another run uses it"
        fix = "wait until that run ends, or use one for this run: server=embedded"
        raise InfraError(Problem(f"Prefect's server {found.url}", cause, fix))
    _end(found)


def _end(found: Standing) -> None:
    """End a living server, by force after END seconds."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.kill(found.pid, number)
        end = time.monotonic() + END
        while found.is_alive and time.monotonic() < end:
            time.sleep(TICK)


def _is_answering(found: Standing, password: str) -> bool:
    """Return whether a living server answers. The password is sent only to a socket of this user."""
    if not server_state.is_own_port(found.port):
        return False
    request = urllib.request.Request(f"{found.url}/admin/version", headers={"Authorization": access.encode_password(password)})
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=ANSWER) as answer:
            return bool(json.load(answer) == metadata.version("prefect"))
    except (OSError, ValueError, urllib.error.URLError):
        return False


def _bind(wanted: int) -> socket.socket:
    """Return a listening socket on the port `wanted`, so that links keep their meaning, or on a free one if it is taken."""
    end = time.monotonic() + 0.5  # a process that was killed may still be letting go of it
    while wanted and time.monotonic() < end:
        with suppress(OSError):
            return socket.create_server(("127.0.0.1", wanted), backlog=128)
        time.sleep(TICK)
    return socket.create_server(("127.0.0.1", 0), backlog=128)


def _digest_code() -> str:
    """Return a digest of what decides how a server behaves: its code, its version and its settings."""
    settings: Mapping[str, Any] = {name: value for name, value in os.environ.items() if name.startswith(SETTINGS) and name != access.SERVER
                                   and not name.startswith(server.VACUUM)}
    home = Path(os.environ.get("PREFECT_HOME") or "~/.prefect").expanduser()
    code = [Path(__file__).with_name("serving.py").read_text(), metadata.version("prefect"), sys.executable, settings,
            files.read_text(home / "profiles.toml")]  # fmt: skip
    return hashlib.sha256(json.dumps(code, sort_keys=True).encode("utf-8", "surrogateescape")).hexdigest()[:16]
