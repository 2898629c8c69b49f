"""A context manager that runs a watcher in the background."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def run_watcher(watch: Callable[[threading.Event], None]) -> Iterator[None]:
    """Run `watch` in a thread while the block runs. On exit its event is set and the thread is joined."""
    ended = threading.Event()
    thread = threading.Thread(target=watch, args=(ended,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
