"""Toy stages and jobs: every way in which a stage can end, without a compiler."""

from __future__ import annotations

import atexit
import collections
import ctypes
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lowering.errors import InfraError, LoadError, Mismatch, Problem, Unsupported
from lowering.job import Job
from lowering.level import Level, Program
from lowering.model import Input, Model, Symbol
from lowering.stage import Note, Report, Silent, Stage


class Heard(Silent):
    """A Note that keeps the codes and messages of warnings, and what was reported."""

    def __init__(self) -> None:
        self.codes: list[str] = []
        self.messages: list[str] = []
        self.reports: dict[str, Any] = {}

    def __call__(self, code: str, message: str, place: str = "") -> None:
        self.codes.append(code)
        self.messages.append(message)

    def report(self, key: Report, data: Any) -> None:
        self.reports[key] = data


@dataclass(frozen=True)
class Toy(Stage):
    """Writes its own name as the IR."""

    text: str = "toy"

    def apply(self, program: Program, note: Note) -> Program:
        return program.replace_ir(self.target, f"{self.text} from {program.level.word}\n")

    def save(self, program: Program, stem: Path) -> list[Path]:
        path = stem.with_name(stem.name + self.target.suffix)
        path.write_text(program.ir)
        return [path]

    def ops(self, program: Program) -> dict[str, int]:
        return {"toy.op": len(self.text)}


@dataclass(frozen=True)
class Export(Toy):
    source = Level.MODEL
    target = Level.EXPORTED


@dataclass(frozen=True)
class Script(Toy):
    source = Level.EXPORTED
    target = Level.TORCHSCRIPT


@dataclass(frozen=True)
class ToTorch(Toy):
    source = Level.TORCHSCRIPT
    target = Level.TORCH


@dataclass(frozen=True)
class Verify(Toy):
    """Stays at its level, and publishes what it found before it fails."""

    source = Level.TORCH
    target = Level.TORCH
    mismatch: bool = False

    def apply(self, program: Program, note: Note) -> Program:
        note.report("verify", {"points": 2, "max_abs": float("nan"), "max_rel": 0.5})
        if self.mismatch:
            raise Mismatch(Problem("output 0", "differs from eager at batch=3"))
        return program


@dataclass(frozen=True)
class Refuse(Script):
    def requires(self, program: Program) -> Sequence[Problem]:
        return [Problem("aten.one", "has no lowering"), Problem("aten.two", "has no lowering")]


@dataclass(frozen=True)
class Break(Script):
    """Its result does not hold what it promises."""

    def ensures(self, program: Program) -> Sequence[Problem]:
        return [Problem("dim 0", "was burned in")]


@dataclass(frozen=True)
class SlowTorch(ToTorch):
    seconds: float = 0.0

    def apply(self, program: Program, note: Note) -> Program:
        time.sleep(self.seconds)
        return super().apply(program, note)


@dataclass(frozen=True)
class Large(Script):
    """Writes as many bytes."""

    size: int = 1 << 20

    def apply(self, program: Program, note: Note) -> Program:
        return program.replace_ir(self.target, "x" * self.size)


class Unreadable(Exception):
    """Cannot be pickled, and cannot be printed."""

    def __init__(self) -> None:
        super().__init__()
        self.held = lambda: None

    def __str__(self) -> str:
        raise RuntimeError("no text")


@dataclass(frozen=True)
class Behave(Script):
    """Does what `how` says instead of its work."""

    how: str = "ok"
    seconds: float = 0.0

    def apply(self, program: Program, note: Note) -> Program:
        note("about-to", f"now: {self.how}", "toy.py:1")
        if self.seconds:
            time.sleep(self.seconds)
        BEHAVIOURS[self.how]()
        return super().apply(program, note)


def _raise(error: BaseException) -> Any:
    raise error


def _segfault() -> None:
    ctypes.string_at(0)


def _abort() -> None:
    os.abort()


def _hang_in_a_crash() -> None:
    """As a handler that waits for a lock which the crash has left taken."""
    os.write(2, b"\nFatal Python error: Aborted\n\n")
    time.sleep(3600)


def _loop_in_python() -> None:
    while True:
        pass


def _loop_in_c() -> None:
    """Never gives the interpreter lock back."""
    collections.deque(itertools.repeat(0), maxlen=0)


def _blow_up() -> None:
    held = []
    while True:
        held.append(b"x" * (32 << 20))


def _blow_up_in_a_process() -> None:
    subprocess.run([sys.executable, "-c", "held = []\nwhile True: held.append(b'x' * (32 << 20))"], check=True)


def _garbage() -> None:
    sys.stdout.write("{not json\n\x00")
    os.write(1, b"\xff\xfe\x00 from C\n" * 1000)
    os.write(2, b'{"event": "result", "outcome": "ok"}\n')


def _hang_at_exit() -> None:
    atexit.register(time.sleep, 3600)


def _die_at_exit() -> None:
    atexit.register(_segfault)


def _leave_orphan() -> None:
    subprocess.Popen(["sleep", "3607"], start_new_session=True)


BEHAVIOURS = {
    "ok": lambda: None,
    "raise": lambda: _raise(ValueError("größer als 例 \udc80")),
    "unreadable": lambda: _raise(Unreadable()),
    "load error": lambda: _raise(LoadError(Problem("model.factory", "cannot be built"))),
    "unsupported": lambda: _raise(Unsupported([Problem("aten.one", "no"), Problem("aten.two", "no")])),
    "infra": lambda: _raise(InfraError(Problem("disk", "is gone"))),
    "disk full": lambda: _raise(OSError(28, "No space left on device")),
    "memory error": lambda: _raise(MemoryError()),
    "sys.exit": lambda: sys.exit(0),
    "os._exit": lambda: os._exit(0),
    "segfault": _segfault,
    "abort": _abort,
    "hang in a crash": _hang_in_a_crash,
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "loop in Python": _loop_in_python,
    "loop in C": _loop_in_c,
    "blow up": _blow_up,
    "blow up in a process": _blow_up_in_a_process,
    "garbage": _garbage,
    "hang at exit": _hang_at_exit,
    "die at exit": _die_at_exit,
    "orphan": _leave_orphan,
}


def model(name: str = "toy") -> Model:
    return Model(name, {"_target_": "tests.toys.nothing"}, {"x": Input("float32", ("batch", 4))}, {"batch": Symbol(1, 8)})


def job(how: str = "ok", name: str = "toy", seconds: float = 0.0) -> Job:
    """export, script (which does `how`), torch."""
    return Job(model(name), {"export": Export(), "script": Behave(how=how, seconds=seconds), "torch": ToTorch()})
