"""Commands run in this process with a time limit, and what is wrong with their end."""

from __future__ import annotations

import contextlib
import io
import signal
import traceback
from collections.abc import Sequence
from dataclasses import dataclass

from flows.__main__ import main

SECONDS = 5  # a command that takes longer hangs


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit status, or what it raised; and what it printed."""

    status: int | str
    out: str
    err: str

    def fault(self, statuses: Sequence[int]) -> str:
        """Return what is wrong with the end; empty if it is a result or a clear refusal."""
        if self.status not in statuses:
            return f"status {self.status}"
        if "Traceback (most recent call last)" in self.err:
            return "a traceback"
        if self.status == 2 and not (self.err.startswith(("shapeline: ", "usage: ")) and len(self.err.strip().splitlines()) > 1):
            return f"a refusal without place and cause: {self.err!r}"
        if strange := [character for character in self.out + self.err if not character.isprintable() and character not in "\n\t"]:
            return f"prints {strange[0]!r}"
        return ""


def run(arguments: Sequence[str], seconds: int = SECONDS) -> Ended:
    """Run a command in this process, with a limit of CPU time, and of ten times as much wall time."""
    out, err = io.StringIO(), io.StringIO()

    def late(*_: object) -> None:
        raise TimeoutError("hangs")

    before = {number: signal.signal(number, late) for number in (signal.SIGPROF, signal.SIGALRM)}
    signal.setitimer(signal.ITIMER_PROF, seconds, 1.0)  # again, because a callback of the interpreter may swallow the first
    signal.setitimer(signal.ITIMER_REAL, 10 * seconds, 1.0)
    status: int | str
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = main(arguments)
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else str(error.code)
    except BaseException as error:  # noqa: BLE001 - that is what is sought
        frames = traceback.extract_tb(error.__traceback__)[::-1][:6]
        status = f"{type(error).__name__}: {error} at {' < '.join(f'{frame.name}:{frame.lineno}' for frame in frames)}"
    finally:
        for timer in (signal.ITIMER_PROF, signal.ITIMER_REAL):
            signal.setitimer(timer, 0)
        for number, handler in before.items():
            signal.signal(number, handler)
    return Ended(status, out.getvalue(), err.getvalue())
