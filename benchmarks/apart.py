"""Work in a process of its own, which neither a crash nor an endless trace of a model outlives."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from typing import Any


def run_apart(work: Callable[[], dict[str, Any]], seconds: int) -> dict[str, Any]:
    """Return what `work` returns, which must be plain data, or `{"failed": why}` if it raises, crashes, or takes more than `seconds`."""
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        os.close(read)
        signal.alarm(seconds)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # torch logs each failed export
        try:
            row = work()
        except BaseException as error:  # noqa: BLE001 - the row says so
            row = {"failed": f"{type(error).__name__}: {error}"}
        with os.fdopen(write, "w") as out:
            out.write(json.dumps(row))
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as given:
        text = given.read()
    os.waitpid(child, 0)
    return dict(json.loads(text)) if text else {"failed": f"crashed, or took more than {seconds} s"}
