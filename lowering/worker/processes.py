"""Process trees on Linux: find, measure and kill the descendants of a process, and bind lifetimes to each other."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

# Of a process that runs jobs, where the user's environment does not set them. Equal runs produce equal artifacts only if sets and dicts of
# strings iterate in the same order. Threads of OpenMP that wait for work would otherwise spin, and take the cores of other jobs.
VARIABLES = {"PYTHONHASHSEED": "0", "OMP_WAIT_POLICY": "PASSIVE"}
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def adopt_orphans() -> None:
    """Make this process the parent of each descendant whose own parent ends."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def kill_group(pid: int) -> None:
    """Kill the process group that `pid` leads, if there is one."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def list_own_children() -> set[int]:
    """List the pids of this process's children."""
    return set(list_children(os.getpid()))


def list_children(pid: int) -> Iterable[int]:
    """List the pids of the children of `pid`; none if it is gone."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return
    for task in tasks:
        with suppress(OSError):
            yield from map(int, (task / "children").read_text().split())


def measure_tree(pid: int) -> int:
    """Measure the resident bytes of `pid` and all its descendants; 0 if it is gone."""
    total = 0
    with suppress(OSError):
        total = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return total + sum(measure_tree(child) for child in list_children(pid))
