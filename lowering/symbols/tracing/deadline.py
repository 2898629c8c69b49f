"""End a trace that does not end: sympy can take hours over sizes that are computed from sizes, and its Python code can be interrupted."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import sympy
import torch

from lowering.errors import Problem
from lowering.ir import source_lines
from lowering.symbols.tracing import frames

_AGAIN = 5.0  # seconds after which it is raised again: one that is raised in a destructor is lost
_SHOWN = 160  # characters of a condition
_NAMES = ("orig_expr", "expr", "a")  # what torch's methods that decide conditions call them


class Overdue(BaseException):
    """A trace exceeded its limit. It is no Exception, because torch takes an Exception during a decision for a size that it cannot decide.

    condition: the one that torch was deciding, in its symbols; line: the model's, in words.
    """

    def __init__(self, seconds: float, condition: str, line: str):
        self.seconds, self.condition, self.line = seconds, condition, line
        super().__init__(f"took more than {seconds:g} s of CPU over {condition or 'the sizes of the model'}")

    def problem(self, place: str, condition: str) -> Problem:
        """Describe the timeout to the author. condition: the one that torch was deciding, in the author's symbols."""
        shown = condition if len(condition) <= _SHOWN else f"{condition[:_SHOWN]}… ({len(condition)} characters)"
        at = f" at {self.line}" if self.line else ""
        return Problem(place, f"gave up after {self.seconds:g} s of CPU{at}: the sizes there are computed from sizes again and again; "
                              f"torch came as far as {shown or 'the first of them'}",
                       "declare the dims with the multiple_of that the model's strides and windows divide, or fix them; "
                       "stages.export.trace_seconds allows more")


@contextmanager
def limit_time(seconds: float | None, base: FrameType | None = None) -> Iterator[None]:
    """Raise Overdue if the block takes more seconds of CPU. There is no limit outside the main thread, which alone gets signals.

    base: the frame below those of the model's code; None where a graph is traced, whose nodes know their lines.
    """
    if seconds is None or threading.current_thread() is not threading.main_thread() or signal.getitimer(signal.ITIMER_VIRTUAL)[0]:
        yield
        return

    def end(_: int, frame: FrameType | None) -> None:
        raise Overdue(seconds, _find_condition(frame), _find_line(frame, base))

    before = signal.signal(signal.SIGVTALRM, end)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds, _AGAIN)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def _find_line(frame: FrameType | None, base: FrameType | None) -> str:
    if base is not None:
        stack = frames.read_live_stack(base)
        return str(frames.convert_spot(stack[-1])) if stack else ""
    while frame is not None:
        if isinstance(frame.f_locals.get("node"), torch.fx.Node) and frames.is_model_code(frame.f_code.co_filename):
            return str(source_lines.find_fx_line(frame.f_locals["node"]))
        frame = frame.f_back
    return ""


def _find_condition(frame: FrameType | None) -> str:
    """Return the condition that the outermost of torch's methods on the stack is deciding."""
    found = ""
    frame = frame or sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename == torch.fx.experimental.symbolic_shapes.__file__:
            value = next((frame.f_locals[name] for name in _NAMES if name in frame.f_locals), None)
            value = value.node.expr if isinstance(value, torch.SymBool) else value
            if isinstance(value, sympy.Basic) and value.free_symbols:
                found = str(value)
        frame = frame.f_back  # type: ignore[assignment]
    return found
