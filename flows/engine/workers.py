"""Checks of a worker on another machine before it takes a job: the run's versions, and write access to the run's folders."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from flows.runs import environment
from lowering.errors import Problem
from lowering.store import mirror

FRESH = 60.0  # seconds for which a result is cached


def check_worker(expected: Mapping[str, Any], folder: Path, store: Path | None) -> list[Problem]:
    """Return all problems that keep this process from lowering the job in `folder` as the run's own process would.

    expected: the run's `environment`.
    """
    host = platform.node()
    here = {"python": platform.python_version(), **environment.read_versions()}
    wanted = {"python": expected["python"], **expected["packages"]}
    found = [Problem(f"worker {host}", f"has {name} {here.get(name) or 'missing'}, the run was started with {version or 'none'}",
                     "install the same versions on every worker")
             for name, version in wanted.items() if here.get(name) != version]
    found += [Problem(f"worker {host}", f"cannot write to {mirror.find_url(path) or path}: {cause}",
                      "set output=PATH to a path or URL that every worker can write to")
              for path in (folder, store) if path is not None and (cause := _try_writing(path, int(time.monotonic() // FRESH)))]
    return found


@lru_cache(maxsize=64)
def _try_writing(path: Path, _tick: int) -> str:
    """Try to write a file to `path` and to its original URL; return the cause of failure, or an empty string."""
    probe = path / f".probe-{platform.node()}-{os.getpid()}-{threading.get_ident()}"
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(b"can be written")
        mirror.upload([probe])
        mirror.remove(probe)
    except OSError as error:
        return error.strerror or str(error)
    finally:
        with suppress(OSError):
            probe.unlink(missing_ok=True)
    return ""
