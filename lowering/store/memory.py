"""Facts that processes remember between runs, in this user's state folder: functions of content alone, which cost time to find again."""

from __future__ import annotations

import atexit
import json
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from lowering import files, trust

MOST = 4000  # facts of a kind; the oldest are forgotten
LARGEST = 16 << 20  # bytes of a file
_lock = threading.RLock()
_known: dict[str, dict[str, Any]] = {}  # by kind
_new: dict[str, dict[str, Any]] = {}  # facts that are not in the file yet, by kind


def recall(kind: str, key: str) -> Any:
    """Return the fact of `key`, as JSON; None if it is not known."""
    with _lock:
        if kind not in _known:
            _known[kind] = _read(kind)
        return _known[kind].get(key)


def remember(kind: str, key: str, fact: Any) -> None:
    """Remember a fact, as JSON. It is written when the process ends, or by `save`."""
    with _lock:
        recall(kind, key)
        _known[kind][key] = _new.setdefault(kind, {})[key] = fact


def find(kind: str, key: str, compute: Callable[[], Any]) -> Any:
    """Return the fact of `key`, computed if it is not known. compute: returns it, as JSON, never None."""
    if (fact := recall(kind, key)) is None:
        remember(kind, key, fact := compute())
    return fact


def save() -> None:
    """Write new facts, and keep those that other processes wrote meanwhile. A state folder that cannot be written is no error."""
    with _lock, suppress(OSError, RuntimeError):
        for kind, found in _new.items():
            kept = dict(list({**_read(kind), **found}.items())[-MOST:])
            place = _locate(kind)
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            draft = place.with_name(f".{place.name}.{os.getpid()}")
            draft.unlink(missing_ok=True)
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "w", encoding="utf-8") as file:
                json.dump(kept, file)
            draft.replace(place)
        _new.clear()


def _locate(kind: str) -> Any:
    return trust.locate_key().with_name(f"known-{kind}.json")


def _read(kind: str) -> dict[str, Any]:
    """Return the facts of a kind. A file that another user could have written is not believed."""
    with suppress(OSError, ValueError, RuntimeError), files.open_regular(_locate(kind)) as file:
        status = os.fstat(file.fileno())
        found = json.loads(file.read(LARGEST)) if status.st_uid == os.geteuid() and not status.st_mode & 0o022 else None
        return found if isinstance(found, dict) else {}
    return {}


atexit.register(save)
