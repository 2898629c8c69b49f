"""An interrupt ends a run wherever it finds the main thread."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable

import pytest

from flows.engine import interrupts
from flows.engine.interrupts import Stop
from lowering.errors import Problem


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when the jobs of this process were ended."""
    event = threading.Event()
    monkeypatch.setattr(interrupts, "AGAIN", 0.2)
    monkeypatch.setattr(interrupts.client, "stop", event.set)
    return event


class Deaf:
    """Loses the interrupt that comes while it is being removed."""

    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)


def remove_one_that_is_deaf() -> None:
    Deaf()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("arrives", [lambda: signal.raise_signal(signal.SIGINT), remove_one_that_is_deaf],
                         ids=["heard", "lost in a callback"])
def test_an_interrupt_comes_out(stopped: threading.Event, arrives: Callable[[], None]) -> None:
    def run() -> None:
        with Stop().listen():
            arrives()
            time.sleep(60)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        run()
    assert stopped.wait(5)
    assert signal.getsignal(signal.SIGINT) is before


def test_another_thread_ends_the_run_with_a_reason(stopped: threading.Event) -> None:
    stop = Stop()

    def run() -> None:
        with stop.listen():
            threading.Timer(0.2, stop, [Problem("server", "is gone")]).start()
            threading.Event().wait()  # as a flow waits for its tasks

    with pytest.raises(KeyboardInterrupt):
        run()
    assert stopped.wait(5)
    assert str(stop.problem) == "server: is gone"


def test_another_thread_ends_a_run_in_the_background_of_a_shell_too(stopped: threading.Event) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        test_another_thread_ends_the_run_with_a_reason(stopped)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_every_signal_ends_a_run_and_a_second_one_does_not_disturb_its_report(number: signal.Signals, stopped: threading.Event) -> None:
    stop, written = Stop(), []

    def run() -> None:
        with stop.install():
            try:
                with stop.listen():
                    signal.raise_signal(number)
                    time.sleep(60)
            finally:
                signal.raise_signal(number)
                written.append("report")

    before = signal.getsignal(number)
    raising, hook = logging.raiseExceptions, threading.excepthook
    try:
        with pytest.raises(KeyboardInterrupt):
            run()
        assert written == ["report"] and stopped.wait(5)
        assert signal.getsignal(number) is before
        assert not logging.raiseExceptions, "threads of libraries end without tracebacks"
    finally:
        logging.disable(logging.NOTSET)
        logging.raiseExceptions, threading.excepthook = raising, hook


@pytest.mark.usefixtures("stopped")
def test_an_interrupt_before_the_flow_listens_does_not_disturb_the_report_either() -> None:
    stop, written = Stop(), []

    def run() -> None:
        with stop.install():
            try:
                signal.raise_signal(signal.SIGINT)
            finally:
                signal.raise_signal(signal.SIGINT)  # on the way to the report
                stop.ignore()
                time.sleep(3 * interrupts.AGAIN)  # the main thread is not signalled again
                signal.raise_signal(signal.SIGTERM)
                written.append("report")

    raising, hook = logging.raiseExceptions, threading.excepthook
    try:
        with pytest.raises(KeyboardInterrupt):
            run()
        assert written == ["report"]
    finally:
        logging.disable(logging.NOTSET)
        logging.raiseExceptions, threading.excepthook = raising, hook
