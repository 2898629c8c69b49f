"""Clocks. The calendar of a machine can be set while it runs, by hours or years; other clocks pass evenly."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

_OFFSET = time.time() - time.monotonic()


def now() -> float:
    """Return the seconds since the epoch, by the calendar of when this process began: not comparable with those of another machine.

    For deadlines: they pass evenly, also when the calendar is set.
    """
    return _OFFSET + time.monotonic()


def measure_uptime() -> float:
    """Return the seconds since this machine was started, including those for which it was suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def read_boot() -> str:
    """Return the name of this start of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def measure_age(then: float, calendars: Sequence[float]) -> float | None:
    """Return how many seconds ago `then` was, by the calendar that puts it least far back; None if it is in the future of all.

    calendars: the present time, by each calendar that may have told `then`. All are in seconds since the epoch.
    """
    return min((now - then for now in calendars if now >= then), default=None)


def measure_file_age(path: Path, calendars: Sequence[float]) -> float:
    """Return how many seconds ago a file was last written or used; 0 for one of the future, which is dated now. Raises OSError."""
    age = measure_age(path.lstat().st_mtime, calendars)
    if age is None:
        with suppress(OSError):  # another user's
            os.utime(path, follow_symlinks=False)
    return age or 0.0
