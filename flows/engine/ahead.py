"""A job that starts before its task: while Prefect is imported and its server starts, the only job of a run is lowered already."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from pathlib import Path

from lowering.record.folder import Limits
from lowering.record.result import JobResult
from lowering.worker import watch

_started: dict[Path, Future[JobResult]] = {}


def start(place: Path, limits: Limits) -> None:
    """Begin to lower the prepared job of `place` in a thread, in the environment of this process. Its task will `join` it."""
    ended: Future[JobResult] = Future()

    def lower() -> None:
        try:
            ended.set_result(watch.lower(place, limits))
        except BaseException as error:  # noqa: BLE001 - the task raises it
            ended.set_exception(error)

    _started[place] = ended
    threading.Thread(target=lower, daemon=True).start()


def is_started(place: Path) -> bool:
    """Return whether the job of `place` was started and has not been joined."""
    return place in _started


def join(place: Path) -> JobResult | None:
    """Wait for the job of `place` and return its result; None if it was not started, or was joined before."""
    ended = _started.pop(place, None)
    return None if ended is None else ended.result()
