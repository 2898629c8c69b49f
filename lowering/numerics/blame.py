"""Find the first level of a program that is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import MappingProxyType
from typing import Any
from unittest.mock import patch

import torch

from lowering.errors import ShapelineError
from lowering.level import Level, Program
from lowering.numerics.bench import Bench
from lowering.numerics.reference import Reference
from lowering.numerics.running.runner import LevelRun, Tensors, runs_here
from lowering.numerics.running.xla import Xla
from lowering.symbols.tracing import frames

_NAMED_LINES = 3  # of those that ask whether they are exported
_TRIED_LINES = 12  # of those, each with a run of the module


def find_first_wrong(bench: Bench, program: Program, given: Tensors, reference: Reference, device: Xla,
                     weights: Tensors = MappingProxyType({})) -> str:
    """Describe the first level of `program`, from the top of the ladder down, that is wrong on `given` and `device`.

    weights: by name, in place of the program's own.
    """
    agrees, skipped = "eager", []
    for form in list_forms(program):
        if not runs_here(form.level) or not (run := bench.build_run(form, device)):
            skipped.append(form.level.word)
            continue
        run = replace(run, weights=weights)
        found = bench.check(run, given, reference)
        if not found.agrees:
            unrun = f" ({', '.join(dict.fromkeys(skipped))} not run)" if skipped else ""
            asks = _find_question(bench, run, given) if agrees == "eager" else ""
            return f"first wrong level: {form.level.word}; {agrees} is right{unrun}{asks}"
        agrees, skipped = form.level.word, []
    return "no level is wrong when run again"


def list_forms(program: Program) -> list[Program]:
    """Return the forms that `program` went through below the model, first to last."""
    forms: list[Program] = []
    form: Program | None = program
    while form is not None:
        if form.level is not Level.MODEL and (not forms or forms[0].ir is not form.ir):
            forms.insert(0, form)
        form = form.above
    return forms


def _find_question(bench: Bench, run: LevelRun, given: Tensors) -> str:
    """Say at which lines the module asks whether it is exported, if it computes there what the program does; empty if it does not.

    Such code takes one branch in eager mode and another one in each export, so no lowering makes the two equal. If a single line decides,
    only that one is named.
    """
    try:
        got = run(bench.select_inputs(given))
    except ShapelineError:  # the level is wrong because it does not run
        return ""

    def find_lines(only: str | None) -> list[str]:
        """Return the lines that ask, if the module computes what the program does when they (or one of them) get the answer yes."""
        try:
            with _pretend_to_export(only) as asking:
                want = bench.eager(given)
        except Exception:  # noqa: BLE001 - the module may not run so, and then it says nothing
            return []
        agrees = all(bench.compare(one, other, making).agrees for one, other, making in zip(got, want, bench.makings, strict=True))
        return [*dict.fromkeys(asking)] if agrees else []

    lines = find_lines(None)
    if not lines:
        return ""
    if len(lines) > 1 and (deciding := next((line for line in lines[:_TRIED_LINES] if find_lines(line)), None)) is not None:
        lines = [deciding]
    more = f" and {len(lines) - _NAMED_LINES} more lines" if len(lines) > _NAMED_LINES else ""
    return (f"; the module itself computes what the program does while torch.export traces it, because its code asks whether it is traced "
            f"({', '.join(lines[:_NAMED_LINES])}{more}): let it compute the same in both cases")


@contextmanager
def _pretend_to_export(only: str | None) -> Iterator[list[str]]:
    """Let torch answer that an export is in progress, without one. Yield the model's lines that ask, which the block fills.

    A function called `is_...` passes the question on: the line is that of its caller. only: the line that gets this answer; None: all.
    """
    asking: list[str] = []

    def ask() -> bool:
        spots = [spot for spot in frames.read_live_stack(None) if not spot[2].startswith("is_")]
        line = str(frames.convert_spot(spots[-1])) if spots else None
        if line is not None:
            asking.append(line)
        return only is None or line == only

    flag = only is None
    answers: dict[str, Any] = {"_is_exporting_flag": flag, "_is_compiling_flag": flag, "is_exporting": ask, "is_compiling": ask}
    with patch.multiple(torch.compiler, **answers):
        yield asking
