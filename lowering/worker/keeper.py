"""A warm process that stays between runs. For each run it forks a copy of itself, which is the run's fork server and ends with the run.

It is found by a socket in the user's state folder, named by a digest of all that its warmth depends on: code, packages, variables, limits.
"""

from __future__ import annotations

import fcntl
import json
import os
import resource
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from lowering import trust
from lowering.store import distributions, provenance
from lowering.store.digests import compute_digest
from lowering.worker import processes

LONGEST = 100  # characters of the path of a socket
STOP = b"stop"  # a greeting
# Variables that differ between terminals and runs, and that no module reads when it is imported.
FREE = ("PWD", "OLDPWD", "SHLVL", "_", "COLUMNS", "LINES", "TERM", "WINDOWID", "CI")
FREE_PREFIXES = ("PREFECT_", "SHAPELINE_", "SSH_", "TERM_", "PYTEST_")
_STATUS = ("Uid", "Gid", "Groups", "NoNewPrivs", "Seccomp", "CapEff", "Cpus_allowed")
_BOOT = """\
import json, sys
sys.path[:] = json.loads(sys.argv[3])
from lowering.worker.keeper import keep
keep(int(sys.argv[1]), float(sys.argv[2]), json.loads(sys.argv[4]))
"""


def connect(minutes: float, warm: Sequence[str]) -> socket.socket | None:
    """Return a connection to the keeper of this environment, started if there is none; None if it cannot be kept.

    minutes: how long a new one stays without a run. The connection is the control socket of a fork server (see `forkserver.serve`), once
    `greet` was called; its first message is {pid} of that server, and comes when it is warm.
    """
    try:
        place = _locate(warm)
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with place.with_suffix(".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # held for a moment only: a keeper that is not warm yet accepts later
            found = _connect(place)
            if found is None:
                _start(place, minutes, warm)
                found = _connect(place)
        return found
    except (OSError, RuntimeError):
        return None


def request_server(control: socket.socket, log: int) -> None:
    """Ask the keeper for a fork server with the environment of this process. log: the open file of its output. Raises OSError."""
    umask = os.umask(0)
    os.umask(umask)
    data = json.dumps({"environment": dict(os.environ), "umask": umask, "folder": str(Path.cwd())}).encode("utf-8", "surrogateescape")
    pages = os.memfd_create("greeting")  # the environment may be larger than a message
    try:
        with os.fdopen(os.dup(pages), "wb") as file:
            file.write(data)
        socket.send_fds(control, [b"run"], [pages, log])
    finally:
        os.close(pages)


def stop_all() -> int:
    """Stop every keeper of this user that no run uses, and return how many there were. Removes what dead ones left."""
    stopped = 0
    with suppress(OSError, RuntimeError):
        for place in trust.locate_key().parent.glob("worker-*.sock"):
            with suppress(OSError):
                found = _connect(place)
                if found is None:
                    place.unlink(missing_ok=True)
                    continue
                with found:
                    found.settimeout(60.0)
                    found.send(STOP)
                    stopped += found.recv(16) == STOP
                    while found.recv(16):  # until it is gone
                        pass
    return stopped


def keep(handle: int, minutes: float, warm: Sequence[str]) -> None:
    """Fork a server for each connection of the listening socket `handle`, until there was no run for `minutes`, or it is told to stop."""
    from lowering.worker import forkserver

    listener = socket.socket(fileno=handle)
    place = Path(listener.getsockname())
    forkserver.load(warm)
    running: set[int] = set()
    began = used = time.monotonic()
    while True:
        if _reap(running):
            used = time.monotonic()
        if not running and (time.monotonic() - used > 60 * minutes or not _is_own(place, listener)):
            with place.with_suffix(".lock").open("a") as lock, suppress(BlockingIOError):
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # no run is about to connect
                if not select.select([listener], [], [], 0)[0]:
                    _exit(place, listener)
        if not select.select([listener], [], [], 1.0)[0]:
            if used > began and not running and "torch.export" in warm:  # after the first run, which loads in its own copy what it needs
                forkserver.load_later(name for names in forkserver.LATER.values() for name in names)
            continue
        control = listener.accept()[0]
        _reap(running)
        with suppress(OSError, ValueError, IndexError):
            word, handles, _, _ = socket.recv_fds(control, 16, 2)
            if _read_peer(control) != os.geteuid():
                pass
            elif word == STOP and not running:
                control.send(STOP)
                _exit(place, listener)
            elif word == b"run":
                running.add(_fork(listener, control, handles))
            for one in handles:
                os.close(one)
        control.close()


def _reap(running: set[int]) -> bool:
    """Remove the servers that have ended from `running`, and return whether there were any."""
    ended = set()
    with suppress(ChildProcessError):
        while pid := os.waitpid(-1, os.WNOHANG)[0]:
            ended.add(pid)
    running -= ended
    return bool(ended)


def _fork(listener: socket.socket, control: socket.socket, handles: Sequence[int]) -> int:
    """Fork the server of a run, and return its pid."""
    from lowering.worker import child, forkserver

    with os.fdopen(os.dup(handles[0]), "rb") as file:
        file.seek(0)
        request: Mapping[str, Any] = json.loads(file.read().decode("utf-8", "surrogateescape"))
    keeper = os.getpid()
    if (pid := os.fork()) != 0:
        return pid
    try:
        os.setsid()
        processes.adopt_orphans()
        listener.close()
        os.dup2(handles[1], 1)
        os.dup2(handles[1], 2)
        for one in handles:
            os.close(one)
        os.environ.clear()
        os.environ.update({**processes.VARIABLES, **request["environment"]})
        os.umask(request["umask"])
        os.chdir(request["folder"])
        control.send(json.dumps({"pid": os.getpid()}).encode())
        forkserver.run(control, keeper, child.main)
    finally:
        os._exit(0)


def _start(place: Path, minutes: float, warm: Sequence[str]) -> None:
    place.unlink(missing_ok=True)
    umask = os.umask(0o177)
    try:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(str(place))
    finally:
        os.umask(umask)
    handle = os.open(place.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
    with listener, os.fdopen(handle, "w") as log:
        listener.listen(64)
        started = subprocess.Popen(
            [sys.executable, "-c", _BOOT, str(listener.fileno()), str(minutes), json.dumps(sys.path), json.dumps(list(warm))],
            pass_fds=(listener.fileno(),), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            env={**processes.VARIABLES, **_read_first_environment()})  # fmt: skip
        started.returncode = 0  # it outlives this process, and Popen would warn about that


def _exit(place: Path, listener: socket.socket) -> NoReturn:
    """Remove the socket and end this process at once: its connections close when it is gone."""
    if _is_own(place, listener):
        place.unlink(missing_ok=True)
    os._exit(0)


def _read_first_environment() -> dict[str, str]:
    """Return the variables with which this process was started: a library that it imported since may have set more."""
    rows = Path("/proc/self/environ").read_bytes().split(b"\0")
    return {os.fsdecode(name): os.fsdecode(value) for name, found, value in (row.partition(b"=") for row in rows) if found}


def _connect(place: Path) -> socket.socket | None:
    """Return a connection to what listens at `place`; None if nothing does, or it is another user's."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        made.connect(str(place))
        if _read_peer(made) == os.geteuid():
            return made
    except (FileNotFoundError, ConnectionRefusedError):
        pass
    made.close()
    return None


def _read_peer(connection: socket.socket) -> int:
    """Return the user at the other end."""
    size = struct.calcsize("3i")
    return int(struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))[1])


def _is_own(place: Path, listener: socket.socket) -> bool:
    """Return whether the socket in the folder is the one that `listener` listens on: it may have been removed or replaced."""
    with suppress(OSError):
        rows = Path("/proc/net/unix").read_text().splitlines()
        inode = str(os.fstat(listener.fileno()).st_ino)
        return place.is_socket() and any(row.split()[6] == inode for row in rows[1:] if row.endswith(f" {place}"))
    return False


def _locate(warm: Sequence[str]) -> Path:
    """Return the path of the socket for this environment. Raises OSError if it is too long, RuntimeError if this user has no home."""
    place = trust.locate_key().absolute().with_name(f"worker-{_digest(warm)}.sock")
    if len(str(place)) > LONGEST:
        raise OSError(f"{place} is too long for a socket")
    return place


def _digest(warm: Sequence[str]) -> str:
    """Return a digest of everything that a process inherits or loads before it knows its job."""
    own = [*(name for name in warm if name.startswith("lowering.")), "lowering.worker.keeper", "lowering.worker.child"]
    given = _read_first_environment()
    variables = {name: value for name, value in given.items() if name not in FREE and not name.startswith(FREE_PREFIXES)}
    status = [line for line in Path("/proc/self/status").read_text().splitlines() if line.split(":")[0] in _STATUS]
    limits = [resource.getrlimit(number) for number in range(16)]
    spaces = [str(entry.readlink()) for entry in sorted(Path("/proc/self/ns").iterdir())]
    return compute_digest([provenance.digest_sources(*own), provenance.list_versions(*own), distributions.compute_stamp(), list(warm),
                           sys.executable, sys.path, variables, status, limits, spaces, Path("/proc/self/cgroup").read_text(),
                           os.nice(0)])[:16]  # fmt: skip
