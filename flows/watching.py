"""Watching while something else goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def watching(watch: Callable[[threading.Event], None]) -> Iterator[None]:
    """Runs `watch` in a thread of its own until the block is left, which its event tells it; it is waited for."""
    ended = threading.Event()
    thread = threading.Thread(target=watch, args=(ended,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
