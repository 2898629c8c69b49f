"""Ctrl-C, and whatever else ends a run before its time, told to the main thread until it has listened.

Python raises KeyboardInterrupt wherever the main thread happens to be; inside a callback of a library it is printed and lost.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from lowering.errors import Problem
from lowering.worker import client

AGAIN = 5.0  # seconds until the main thread is told again


class Stop:
    """Ends the run of this process. problem: why, when it was not the user."""

    def __init__(self) -> None:
        self.problem: Problem | None = None
        self._listened = threading.Event()
        self._asked = threading.Event()

    def __call__(self, problem: Problem) -> None:
        """End the run from any thread: its jobs at once, its flow by a KeyboardInterrupt in the main thread."""
        self.problem = self.problem or problem
        self._tell()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """An interrupt that arrives inside comes out of it as KeyboardInterrupt, and has ended all jobs by then."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self._interrupted)
        try:
            yield
        finally:
            self._listened.set()
            signal.signal(signal.SIGINT, before)

    def _interrupted(self, *_: object) -> None:
        if not self._asked.is_set():
            self._asked.set()
            threading.Thread(target=self._insist, daemon=True).start()  # a thread: the main one may hold the locks that ending jobs takes
        raise KeyboardInterrupt

    def _insist(self) -> None:
        client.stop()
        while not self._listened.wait(AGAIN):
            self._tell()

    def _tell(self) -> None:
        main = threading.main_thread()
        if main.ident is not None and not self._listened.is_set():
            signal.pthread_kill(main.ident, signal.SIGINT)  # a real signal: it also ends a wait for a lock
