"""Interruption of a run by Ctrl-C or by an error: the main thread is signalled until it reacts.

Python raises KeyboardInterrupt wherever the main thread happens to be. Inside a callback of a library it is printed and lost.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from lowering.errors import Problem
from lowering.worker import client

AGAIN = 5.0  # seconds until the main thread is signalled again


class Stop:
    """Stops the run of this process when called. problem: the cause, unless the user interrupted."""

    def __init__(self) -> None:
        self.problem: Problem | None = None
        self._listened = threading.Event()
        self._asked = threading.Event()

    def __call__(self, problem: Problem) -> None:
        """Stop the run, from any thread: its jobs at once, its flow by a KeyboardInterrupt in the main thread."""
        self.problem = self.problem or problem
        self._tell()

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle interrupts while the block runs: end all jobs, and raise KeyboardInterrupt from the block."""
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
            # In a thread: the main thread may hold locks that stopping the jobs needs.
            threading.Thread(target=self._insist, daemon=True).start()
        raise KeyboardInterrupt

    def _insist(self) -> None:
        client.stop()
        while not self._listened.wait(AGAIN):
            self._tell()

    def _tell(self) -> None:
        main = threading.main_thread()
        if main.ident is not None and not self._listened.is_set():
            signal.pthread_kill(main.ident, signal.SIGINT)  # a real signal also interrupts a wait for a lock
