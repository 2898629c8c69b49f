"""Jobs without a compiler, to measure the engine: their only stage does nothing, or computes for some seconds."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from lowering.job import Job
from lowering.level import Level, Program
from lowering.model import Input, Model, Symbol
from lowering.stage import Note, Stage


@dataclass(frozen=True)
class Compute(Stage):
    """Keep one core busy for `seconds` of CPU time, then write one small file."""

    source: ClassVar[Level] = Level.MODEL
    target: ClassVar[Level] = Level.EXPORTED

    seconds: float = 0.0
    number: int = 0

    def apply(self, program: Program, note: Note) -> Program:
        end = time.thread_time() + self.seconds
        while time.thread_time() < end:
            pass
        return program.replace_ir(self.target, f"program {self.number}\n")

    def save(self, program: Program, stem: Path) -> list[Path]:
        path = stem.with_name(stem.name + ".txt")
        path.write_text(program.ir)
        return [path]


def jobs(count: int, seconds: float = 0.0) -> tuple[Job, ...]:
    """Build `count` jobs that differ only in a number."""
    model = Model("job", {"_target_": "benchmarks.engine_jobs.jobs"}, {"x": Input("float32", ("batch", 4))}, {"batch": Symbol(1, 8)})
    return tuple(Job(replace(model, name=f"job{number}"), {"compute": Compute(seconds, number)}) for number in range(count))
