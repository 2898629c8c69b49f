"""Lower programs in memory: apply stages and check their promises, without files and without the store."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from lowering import ladder, twins
from lowering.errors import Problem, ShapelineError, StageFailed, Unsupported
from lowering.level import Level, Program, Twin
from lowering.plain import to_plain
from lowering.record.events import History
from lowering.record.recorder import Recorder, UnfiledRecorder
from lowering.stage import Stage
from lowering.symbols import levels

Phase = Callable[[str], AbstractContextManager[Any]]


def add_twin(program: Program, stages: Mapping[str, Stage]) -> Program:
    """Return a program without weights together with its twin, which is lowered through `stages`; other programs as they are.

    Raises the stages' errors, with the twin named, and ShapelineError if the twin that the model's file requests does not exist.
    """
    model = program.model
    if model is None or model.weights != "none":
        return program
    try:
        small, changes = twins.make(model)
    except ShapelineError as error:
        if model.twin is not None:
            raise
        twin = Twin(reason=str(error))
    else:
        recorder = UnfiledRecorder(Path(), History(model.name, "twin"), lambda event: None)
        try:
            twin = Twin(changes, lower(Program(Level.MODEL, small), stages, recorder))
        except ShapelineError as error:
            place = f"the twin in {recorder.history.stage}"
            raise type(error)([replace(one, place=f"{place}: {one.place}") for one in error.problems], error.log) from error
    return Program(program.level, program.ir, program.signature, program.weights, program.above, twin)


def lower(program: Program, stages: Mapping[str, Stage], recorder: Recorder) -> Program:
    """Lower `program` through `stages` in memory: no file is written and no store used. Raises the stages' errors."""
    if problems := ladder.check(stages, program.level):
        raise StageFailed(problems)
    for name, stage in stages.items():
        recorder.begin(name, Path(), "")
        program, broken = advance(name, stage, program, recorder)
        if broken:
            raise StageFailed(broken)
    return program


def advance(name: str, stage: Stage, program: Program, recorder: Recorder, phase: Phase = nullcontext) -> tuple[Program, Sequence[Problem]]:
    """Apply a stage to `program`, and report the state of the inputs. Return the result and the violations of its `ensures`.

    phase: called with the name of each phase; the phase runs in the context that it returns.
    Raises Unsupported with everything in `program` that the stage cannot lower, and the stage's own errors.
    """
    with phase("load"):
        _ = program.ir  # reads a program from the store, which happens on first access
    with phase("requires"):
        if refusals := tuple(stage.requires(program)):
            raise Unsupported(refusals)
    with phase("apply"):
        result = stage.apply(program, recorder)
        if result.level is not stage.target:
            raise StageFailed(Problem(name, f"returned a program at level {result.level.word}, but declares {stage.target.word}"))
    if result.ir is not program.ir:
        report_inputs(result, recorder)
    with phase("ensures"):
        return result, tuple(stage.ensures(result))


def report_inputs(made: Program, recorder: Recorder) -> None:
    """Report the state of the inputs in a new program. Errors of the symbol log become a warning."""
    try:
        level_inputs = levels.describe_inputs(made)
    except Exception:  # noqa: BLE001 - a program may be valid even if the log cannot read it
        recorder("log_failed", traceback.format_exc(), f"the symbol log at level {made.level.word}")
        return
    if level_inputs is not None:
        recorder.record_in_stage({"event": "level_inputs", "level_inputs": to_plain(level_inputs)})
