"""Interruption of a run by Ctrl-C, SIGTERM, SIGHUP or an error: the main thread is signalled until it reacts, and the report is written.

Python raises KeyboardInterrupt wherever the main thread happens to be. Inside a callback of a library it is printed and lost.
"""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from lowering.errors import Problem
from lowering.worker import client

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # SIGHUP stays ignored under nohup
AGAIN = 5.0  # seconds until the main thread is signalled again


def _silence() -> None:
    """Let the threads of libraries end without tracebacks: the end of the run is no error of theirs."""
    logging.disable(logging.CRITICAL)
    logging.raiseExceptions = False
    threading.excepthook = lambda _: None


class Stop:
    """Stops the run of this process when called. problem: the cause, unless the user interrupted."""

    def __init__(self) -> None:
        self.problem: Problem | None = None
        self._listened = threading.Event()
        self._asked = threading.Event()
        self._installed = False
        self._told = False  # whether the next signal comes from this object
        self._own = signal.SIGINT  # the signal that wakes the main thread

    def __call__(self, problem: Problem) -> None:
        """Stop the run, from any thread: its jobs at once, its flow by a KeyboardInterrupt in the main thread."""
        self.problem = self.problem or problem
        self._tell()

    @contextmanager
    def listen(self) -> Iterator[None]:
        """Handle interrupts while the block runs: end all jobs, and raise KeyboardInterrupt from the block. Later ones are ignored."""
        with self.install():
            if not self._asked.is_set():
                self._listened.clear()
            try:
                yield
            finally:
                self._listened.set()

    def ignore(self) -> None:
        """Ignore interrupts from now on, because the report is about to be written: one may have come before the block of `listen`."""
        self._listened.set()

    @contextmanager
    def install(self) -> Iterator[None]:
        """Handle interrupts while the block runs as `listen` does, and ignore those that come after it: the report is being written."""
        if self._installed or threading.current_thread() is not threading.main_thread():
            yield
            return
        self._installed = True
        before = {number: signal.signal(number, self._handle) for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN}
        self._own = next(iter(before), signal.SIGINT)  # a shell starts a job in the background with SIGINT ignored
        try:
            yield
        finally:
            self._installed = False
            for number, handler in before.items():
                signal.signal(number, handler)

    def _handle(self, *_: object) -> None:
        if self._listened.is_set() or (self._asked.is_set() and not self._told):  # the run is about to end: a second signal changes nothing
            return
        self._told = False
        if not self._asked.is_set():
            self._asked.set()
            # In a thread: the main thread may hold locks that stopping the jobs needs.
            threading.Thread(target=self._stop_jobs, daemon=True).start()
        raise KeyboardInterrupt

    def _stop_jobs(self) -> None:
        _silence()
        client.stop()
        while not self._listened.wait(AGAIN):
            self._tell()

    def _tell(self) -> None:
        main = threading.main_thread()
        if main.ident is not None and not self._listened.is_set():
            self._told = True
            signal.pthread_kill(main.ident, self._own)  # a real signal also interrupts a wait for a lock
