"""The installed environments of jobs on this machine: their folders, their sizes, and the removal of the least recently used.

A process that runs jobs in an environment holds a lock of it, and marks it as used. After an installation, the least recently used
environments are removed until the rest fits `MOST_BYTES`; those in use or used within `IDLE` stay.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lowering import clock, files

MARK = "environment.json"  # in the folder of an environment; written last
MOST_BYTES = 20 << 30
IDLE = 86400.0  # seconds
USERS = ".users"  # suffix of the lock that processes with jobs in an environment share
_held: dict[tuple[int, Path], int] = {}  # by process and folder: the open locks


@dataclass(frozen=True)
class Installed:
    """An environment on this disk. used: when its last job started (seconds since the epoch); requirements: none if it is not complete."""

    folder: Path
    name: str
    requirements: tuple[str, ...]
    bytes: int
    used: float


def get_root() -> Path:
    """Return the folder of the environments of this user."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(cache).absolute() / "shapeline" / "environments"


def read_mark(folder: Path) -> dict[str, Any]:
    """Return the description from which an environment was built; empty if the folder has no complete environment."""
    try:
        found = files.read(folder / MARK)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def hold(folder: Path) -> None:
    """Note that a job uses an environment now, and keep it from being removed while this process lives."""
    with suppress(OSError):  # a read-only cache
        os.utime(folder / MARK)
    if (os.getpid(), folder) not in _held:
        with suppress(OSError):  # a file system without locks: environments used within IDLE stay
            _held[os.getpid(), folder] = handle = files.open_lock(folder.with_suffix(USERS))
            fcntl.flock(handle, fcntl.LOCK_SH)


def list_installed() -> list[Installed]:
    """Return the environments, the most recently used first."""
    return sorted((_describe(folder) for folder in get_root().glob("*/")), key=lambda found: -found.used)


def evict(most: int = MOST_BYTES, idle: float = IDLE, keep: Path | None = None) -> list[Installed]:
    """Remove the least recently used environments until the rest has at most `most` bytes; return those that were removed.

    idle: environments used in the last so many seconds stay, as does the one in the folder `keep`.
    """
    found = list_installed()
    left, now, removed = sum(one.bytes for one in found), [time.time()], []
    for one in reversed(found):
        if left > most and clock.measure_file_age(_find_stamp(one.folder), now) >= idle and one.folder != keep and remove(one):
            removed.append(one)
            left -= one.bytes
    return removed


def remove(installed: Installed) -> bool:
    """Remove an environment. Return whether it is gone: one that is being installed or used stays. Raises OSError."""
    with installed.folder.with_suffix(".lock").open("a") as lock, installed.folder.with_suffix(USERS).open("a") as users:
        try:
            for held in (lock, users):
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        (installed.folder / MARK).unlink(missing_ok=True)  # first: without it, nobody takes the rest for an environment
        shutil.rmtree(installed.folder)
        return True


def choose(words: Sequence[str]) -> tuple[list[Installed], list[str]]:
    """Return the environments whose name or folder a word is, and the words that are neither."""
    found = list_installed()
    chosen = [one for one in found if one.name in words or one.folder.name in words]
    known = {word for one in chosen for word in (one.name, one.folder.name)}
    return chosen, [word for word in words if word not in known]


def _find_stamp(folder: Path) -> Path:
    """Return the file whose time is that of the last use."""
    return folder / MARK if (folder / MARK).is_file() else folder


def _describe(folder: Path) -> Installed:
    mark = read_mark(folder)
    used = _find_stamp(folder).stat().st_mtime
    size = sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return Installed(folder, str(mark.get("name", "")), tuple(mark.get("requirements", ())), size, used)
