"""Client of this process's fork server, which is started for the first job and replaced if it dies."""

from __future__ import annotations

import atexit
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lowering import clock, environments
from lowering.environments import Environment
from lowering.errors import InfraError, Problem
from lowering.store import memory
from lowering.worker import keeper, processes
from lowering.worker.forkserver import KILL, STACKS, WARM

_BOOT = """\
import json, sys
sys.path[:] = json.loads(sys.argv[3])
from lowering.worker import keeper
from lowering.worker.forkserver import serve
serve(int(sys.argv[1]), int(sys.argv[2]), json.loads(sys.argv[4]))
"""
_BOOT_ELSEWHERE = _BOOT.replace("sys.path[:] =", "sys.path[:0] =")  # installed packages are those of the other Python


@dataclass
class Child:
    """The process of a job, as seen by its watcher."""

    pid: int
    line: socket.socket

    def wait(self, seconds: float) -> int | None:
        """Wait until the whole process tree is dead and return the exit code (negative: a signal), or None after `seconds`.

        Raises InfraError if the server died, which kills the job too.
        """
        self.line.settimeout(seconds)
        try:
            message = self.line.recv(4096)
        except TimeoutError:
            return None
        except OSError:
            message = b""
        if not message and _stopped.is_set():
            raise InfraError(Problem("run", "was interrupted", "give the same command again to continue"))
        if not message:
            raise InfraError(Problem("fork server", "died, and all its jobs with it", "run the job again"))
        return int(json.loads(message)["exit"])

    def kill(self) -> None:
        self._ask(KILL)

    def dump_stacks(self) -> None:
        """Dump the Python stacks of all threads to the job's log, even if the interpreter is stuck in C."""
        self._ask(STACKS)

    def close(self) -> None:
        self.line.close()

    def _ask(self, what: bytes) -> None:
        with suppress(OSError):
            self.line.send(what)


class ForkServer:
    """A warm process. It ends, with all its children, when the process that owns this object does.

    python: of an environment, whose packages it loads (None: this process's own).
    """

    def __init__(self, python: Path | None = None) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - open for the lifetime of the server
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [*([str(python), "-P", "-c", _BOOT_ELSEWHERE] if python else [sys.executable, "-c", _BOOT]), str(theirs.fileno()),
                 str(os.getpid()), json.dumps(environments.find_paths() if python else sys.path), json.dumps(WARM)],
                pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL, stdout=self._log, stderr=subprocess.STDOUT,
                start_new_session=True, env={**processes.VARIABLES, **os.environ})

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def fork(self, folder: Path, environment: Mapping[str, str], patience: float) -> Child:
        """Start the job of `folder` in a child, with `environment` added to its variables.

        Raises InfraError if it takes over `patience` seconds.
        """
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        variables = {"PWD": str(Path.cwd()), **environment}
        request = json.dumps({"folder": str(folder.absolute()), "environment": variables}).encode()
        ours.settimeout(patience)
        try:
            with theirs:
                socket.send_fds(self._control, [request], [theirs.fileno()])
            answer: dict[str, Any] = json.loads(ours.recv(4096) or "{}")
        except OSError as error:
            answer = {"error": f"no answer: {error}"}
        if "pid" not in answer:
            ours.close()
            raise InfraError(Problem("fork server", answer.get("error", "died"), "the end of its output follows"), self._last_words())
        return Child(answer["pid"], ours)

    def close(self, patience: float = 5.0) -> None:
        """Shut down the server, and all processes that its jobs have started."""
        self._process.terminate()
        try:
            self._process.wait(patience)
        except subprocess.TimeoutExpired:
            self.kill()
        self._control.close()
        self._log.close()

    def kill(self) -> None:
        """Kill the server and its jobs immediately. The next job starts another server."""
        self._process.kill()
        self._process.wait()

    def _last_words(self, limit: int = 8000) -> str:
        if self._log.closed:
            return ""
        size = os.fstat(self._log.fileno()).st_size
        return os.pread(self._log.fileno(), limit, max(0, size - limit)).decode("utf-8", "replace")


class KeptServer(ForkServer):
    """A copy of the warm process that stays between runs (see `keeper`). It too ends with the process that owns this object."""

    def __init__(self, control: socket.socket) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - open for the lifetime of the server
        self._control, self._handle = control, -1
        keeper.request_server(control, self._log.fileno())

    @property
    def alive(self) -> bool:
        return self._handle < 0 or not select.select([self._handle], [], [], 0)[0]

    def fork(self, folder: Path, environment: Mapping[str, str], patience: float) -> Child:
        with _greeting:
            if self._handle < 0:
                self._control.settimeout(patience)
                try:
                    self._handle = os.pidfd_open(json.loads(self._control.recv(4096) or "{}")["pid"])
                except (OSError, KeyError) as error:
                    fix = "worker.keep_minutes=0 does without it"
                    raise InfraError(Problem("warm process", f"did not answer: {error}", fix)) from error
                self._control.settimeout(None)
        return super().fork(folder, environment, patience)

    def close(self, patience: float = 5.0) -> None:
        self._control.close()  # ends the server, and it all processes that its jobs have started
        if self._handle >= 0:
            if not select.select([self._handle], [], [], patience)[0]:
                self.kill()
            os.close(self._handle)
            self._handle = -1
        self._log.close()

    def kill(self) -> None:
        if self._handle >= 0:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)
            select.select([self._handle], [], [], 5.0)


_lock = threading.Lock()
_greeting = threading.Lock()
_keep = 0.0  # minutes for which a warm process stays between runs
_stopped = threading.Event()
# By pid, as a forked copy of this process must not use its parent's, and by the Python of an environment.
_servers: dict[tuple[int, Path | None], ForkServer] = {}


def keep(minutes: float) -> None:
    """Let later fork servers of this process be copies of a warm process that stays for so long without a run (0: of none)."""
    global _keep
    _keep = minutes


def _start(python: Path | None) -> ForkServer:
    memory.save()  # it reads the same sources, and need not parse them again
    if python is not None:
        return ForkServer(python)
    control = keeper.connect(_keep, WARM) if _keep else None
    return ForkServer() if control is None else KeptServer(control)


def get_server(environment: Environment | None = None, deadline: float | None = None) -> ForkServer:
    """Return the running fork server of this process for jobs of `environment`, which is installed if it is not yet.

    deadline: when installing is given up. Raises InfraError if it cannot be installed, and after `stop` was called.
    """
    python = None
    if environment is not None:
        python = environments.build(environment, lambda: _stopped.is_set() or (deadline is not None and clock.now() >= deadline))
        environments.check_precedence(environment)
    with _lock:
        if _stopped.is_set():
            raise InfraError(Problem("run", "was interrupted"))
        found = _servers.get((os.getpid(), python))
        if found is not None and not found.alive:
            found.close()
            found = None
        if found is None:
            found = _servers[os.getpid(), python] = _start(python)
        return found


def stop() -> None:
    """Kill all jobs of this process immediately, and prevent new ones."""
    with _lock:
        _stopped.set()
        for key in [key for key in _servers if key[0] == os.getpid()]:
            _servers.pop(key).close()


def is_stopped() -> bool:
    return _stopped.is_set()


atexit.register(stop)
