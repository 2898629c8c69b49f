"""Find the first level of a program that is wrong."""

from __future__ import annotations

from dataclasses import replace
from types import MappingProxyType

from lowering.level import Level, Program
from lowering.numerics.bench import Bench
from lowering.numerics.reference import Reference
from lowering.numerics.running.runner import Tensors, runs_here
from lowering.numerics.running.xla import Xla


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
        found = bench.check(replace(run, weights=weights), given, reference)
        if not found.agrees:
            unrun = f" ({', '.join(dict.fromkeys(skipped))} not run)" if skipped else ""
            return f"first wrong level: {form.level.word}; {agrees} is right{unrun}"
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
