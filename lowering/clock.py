"""A clock for deadlines: seconds since the epoch that pass evenly, also when the calendar of the machine is set while a run goes on."""

from __future__ import annotations

import time

_OFFSET = time.time() - time.monotonic()


def now() -> float:
    """Return the seconds since the epoch, by the calendar of when this process began: not comparable with those of another machine."""
    return _OFFSET + time.monotonic()
