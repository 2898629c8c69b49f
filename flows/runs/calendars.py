"""The calendars of this machine. Each run notes its own when it begins, so that what it used does not become old when the clock is set."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from flows.runs.record import LOCK
from lowering import clock, files

SLACK = 60.0  # seconds between two calendars that count as one: a clock that is kept right by steps


def note(lock: int) -> None:
    """Write the calendar of this moment to the open lock of a run. A disk that refuses is no error: the run then has no calendar."""
    with suppress(OSError):
        noted = {"boot": clock.read_boot(), "uptime": clock.measure_uptime(), "time": time.time()}
        os.ftruncate(lock, 0)
        os.pwrite(lock, json.dumps(noted).encode(), 0)


def read_all(runs: Path) -> list[float]:
    """Return the present time by the calendar of now, then by those of the runs that began since this machine was started.

    In seconds since the epoch; calendars that agree are one.
    """
    found = [time.time()]
    for calendar in _read_noted(runs):
        if all(abs(calendar - other) > SLACK for other in found):
            found.append(calendar)
    return found


def _read_noted(runs: Path) -> Iterator[float]:
    boot, uptime = clock.read_boot(), clock.measure_uptime()
    for path in runs.glob(f"*/{LOCK}"):
        with suppress(OSError, ValueError, KeyError, TypeError), files.open_regular(path) as file:
            noted = json.loads(file.read(4096))
            if noted["boot"] == boot:
                yield float(noted["time"] + uptime - noted["uptime"])
