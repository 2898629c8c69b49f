"""Capture of torch's events about symbols during a block, with log handlers and the live ShapeEnv. Nothing is patched.

    with capture(module) as log:
        program = torch.export.export(module, ...)
    symbols = record(log, model, program, None)
"""

from __future__ import annotations

import contextlib
import functools
import logging
import sys
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import Any

import torch
from torch._guards import CompileContext, CompileId, TracingContext, compile_context
from torch.fx.experimental import _config as shapes_config
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from lowering.symbols.tracing import frames
from lowering.symbols.tracing.events import ASKED_BY, Event, read_structured, read_text

SHAPES = "torch.fx.experimental.symbolic_shapes"
TRACE = "torch.__trace"
FAKE_TENSORS = "torch._subclasses.fake_tensor"
FAILURES_KEPT = 10
FRAME = 1 << 30  # of the compile id of code that this capture traces outside of Dynamo, which counts its frames from 0


@dataclass(frozen=True)
class Settings:
    """Settings of a capture.

    extended_debug: torch names of symbols (`u5`, `s77`) whose creation is reported with the full Python and C++ stacks.
    trace: whether to keep torch's structured trace (`trace.log`, for tlparse).
    """

    extended_debug: tuple[str, ...] = ()
    trace: bool = True


@dataclass
class Log:
    """Events of a capture, in order. failures: the first few tracebacks of errors in the handlers; failed: the number of such errors."""

    settings: Settings = field(default_factory=Settings)
    forward: frames.Spot | None = None
    events: list[Event] = field(default_factory=list)
    envs: list[ShapeEnv] = field(default_factory=list)
    trace: list[logging.LogRecord] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    failed: int = 0
    started: float = field(default_factory=time.perf_counter)
    base: FrameType | None = None

    def add(self, kind: str, data: dict[str, Any]) -> None:
        stack = frames.read_live_stack(self.base) or frames.filter_summary(TracingContext.extract_stack())
        if kind in ("assumption", "guard"):
            data = {**data, ASKED_BY: frames.list_torch_functions(self.base)}
        self.events.append(Event(kind, data, stack, time.perf_counter() - self.started))

    def fail(self) -> None:
        """Record the current exception, because raising it in a handler would fail the export."""
        self.failed += 1
        if len(self.failures) < FAILURES_KEPT:
            self.failures.append(traceback.format_exc())


def capture(module: torch.nn.Module | None = None, settings: Settings | None = None) -> Capture:
    """Return a context manager whose value is the Log of the block. module: the exported module, for the line of its forward."""
    return Capture(module, settings or Settings())


class Capture:
    """Listens to torch's two log channels during a block. Other handlers of these channels are unaffected. Not thread-safe."""

    def __init__(self, module: torch.nn.Module | None, settings: Settings):
        self.log = Log(settings, _find_forward(module))
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Log:
        self.log.base = sys._getframe(1)
        with contextlib.ExitStack() as stack:
            stack.enter_context(_listen(SHAPES, _ShapesReader(self.log), passing=True))
            stack.enter_context(_listen(TRACE, _TraceReader(self.log), passing=False))
            stack.enter_context(_drop_tracebacks(FAKE_TENSORS))
            if CompileContext.current_compile_id() is None:  # otherwise torch walks the whole stack at each event, only to find no id
                stack.enter_context(compile_context(CompileContext(CompileId(frame_id=FRAME, frame_compile_id=0))))
            if self.log.settings.extended_debug:
                wanted = ",".join(self.log.settings.extended_debug)
                stack.enter_context(shapes_config.patch(extended_debug_create_symbol=wanted))  # type: ignore[attr-defined]
            self._stack = stack.pop_all()
        return self.log

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.log.base = None
        self._stack.close()


class _ShapesReader(logging.Handler):
    def __init__(self, log: Log):
        super().__init__()
        self.log = log

    def emit(self, record: logging.LogRecord) -> None:
        try:
            found = read_text(record)
            if found is None:
                return
            self.log.add(*found)
            if found[0] == "env":
                self.log.envs.append(_find_new_env())
        except Exception:  # noqa: BLE001 - errors in a handler must not fail the export
            self.log.fail()


class _TraceReader(logging.Handler):
    def __init__(self, log: Log):
        super().__init__()
        self.log = log

    def emit(self, record: logging.LogRecord) -> None:
        try:
            if self.log.settings.trace:
                self.log.trace.append(record)
            found = read_structured(record)
            if found is not None:
                self.log.add(*found)
        except Exception:  # noqa: BLE001 - errors in a handler must not fail the export
            self.log.fail()


class _Passing(logging.Handler):
    """Passes records on to the previous handlers, if their level permits."""

    def __init__(self, logger: logging.Logger):
        super().__init__(logger.getEffectiveLevel())
        self.handlers = list(logger.handlers)
        self.parent = logger.parent if logger.propagate else None

    def emit(self, record: logging.LogRecord) -> None:
        for handler in self.handlers:
            if record.levelno >= handler.level:
                handler.handle(record)
        if self.parent is not None:
            self.parent.callHandlers(record)


@contextlib.contextmanager
def _drop_tracebacks(name: str) -> Iterator[None]:
    """Drop the logger's records of exceptions: they are raised too, and the failure reports them with the model's line."""

    def keep(record: logging.LogRecord) -> bool:
        return not record.exc_info

    logger = logging.getLogger(name)
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)


@contextlib.contextmanager
def _listen(name: str, reader: logging.Handler, passing: bool) -> Iterator[None]:
    """Send every record of the logger to `reader`. It comes first, because torch's trace logger removes handlers while it walks them."""
    logger = logging.getLogger(name)
    before = (list(logger.handlers), logger.level, logger.propagate, logger.disabled)
    logger.handlers[:] = [reader, *([_Passing(logger)] if passing else logger.handlers)]
    logger.disabled = False
    _set_level(logger, logging.DEBUG)
    logger.propagate = False
    try:
        yield
    finally:
        removed = [] if passing else [handler for handler in before[0] if handler not in logger.handlers]
        logger.handlers[:] = [handler for handler in before[0] if handler not in removed]
        _set_level(logger, before[1])
        logger.propagate, logger.disabled = before[2], before[3]


def _set_level(logger: logging.Logger, level: int) -> None:
    """Set the level like logger.setLevel, but without clearing the caches of all loggers of the process.

    The logger must have no children.
    """
    if logger.level == level:
        return
    if _has_below(logger.name, len(logger.manager.loggerDict)) or not hasattr(logger, "_cache"):
        logger.setLevel(level)
        return
    logger.level = level
    logger._cache.clear()


@functools.cache
def _has_below(name: str, _count: int) -> bool:
    """Return whether one of the process's `_count` loggers is a child of `name`."""
    below = f"{name}."
    return any(other.startswith(below) for other in logging.root.manager.loggerDict)


def _find_new_env() -> ShapeEnv:
    """Return the ShapeEnv whose constructor is on the stack."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__") == SHAPES and isinstance(frame.f_locals.get("self"), ShapeEnv):
            return frame.f_locals["self"]
        frame = frame.f_back
    raise LookupError(f"{SHAPES} logged 'create_env' outside of a ShapeEnv's constructor")


def _find_forward(module: torch.nn.Module | None) -> frames.Spot | None:
    forward = getattr(module.__dict__.get("forward") if module is not None else None, "__func__", getattr(type(module), "forward", None))
    code = getattr(forward, "__code__", None)  # of the method that is lowered
    if module is None or code is None:
        return None
    inner = getattr(forward, "__wrapped__", None)
    while inner is not None:
        code, inner = getattr(inner, "__code__", code), getattr(inner, "__wrapped__", None)
    return (code.co_filename, code.co_firstlineno, code.co_name)
