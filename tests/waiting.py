"""Waiting in tests for something that another process does."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_for(met: Callable[[], object], seconds: float = 30.0) -> bool:
    """Return True as soon as a condition is met, or False if it is not met in time."""
    end = time.monotonic() + seconds
    while not met():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
