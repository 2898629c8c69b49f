"""Compare a captured program with its module where the module takes another branch than the one that was captured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch.export import ExportedProgram

from lowering.eager import inputs
from lowering.eager.module import restore_buffers, run_eager
from lowering.eager.outputs import Outputs, flatten_outputs
from lowering.errors import LoadError
from lowering.fx import exported, squeezes
from lowering.model import Built, Model
from lowering.numerics.comparison import compare, tolerance_of
from lowering.sizes import evaluation
from lowering.stage import Note
from lowering.symbols.attempts import Captured
from lowering.symbols.branches import Branch


def with_asserted(captured: Captured, built: Built, note: Note) -> Captured:
    """`captured`, which asserts the conditions of branches that it did not take, unless it is right at sizes that would take them."""
    program, model = captured.program, built.model
    if not captured.branches or program is None:
        return captured
    for node, _ in list(squeezes.dynamic(program)):
        squeezes.settle(node)
    exported.rename_results(program)
    compared = [branch for branch in captured.branches if model.weights == "random" and branch.fails_at.keys() <= model.symbols.keys()]
    for branch in captured.branches:
        if branch not in compared:
            note("branch_unchecked", _told(branch, "what the program computes there was not compared with the model"),
                 branch.condition.text)
    asserted = tuple(_wrong(compared, program, built.module, model))
    for branch in asserted:
        note("guard_within_range", _told(branch, "the program refuses these sizes"), branch.condition.text)
    return replace(captured, deferred=(*captured.deferred, *(branch.condition for branch in asserted)))


def _told(branch: Branch, consequence: str) -> str:
    at = evaluation.text(branch.fails_at)
    line = f" ({branch.condition.line})" if branch.condition.line else ""
    return f"the code was captured for {branch.condition.text} and takes another branch at {at}{line}; {consequence}"


def _wrong(branches: Sequence[Branch], program: ExportedProgram, module: torch.nn.Module, model: Model) -> Iterator[Branch]:
    """The branches at whose other sizes the program computes other results than the module, each point run once."""
    judged: dict[tuple[tuple[str, int], ...], bool] = {}
    for branch in branches:
        point = tuple(sorted(branch.fails_at.items()))
        if point not in judged:
            judged[point] = _agrees({**model.examples(), **branch.fails_at}, program, module, model)
        if not judged[point]:
            yield branch


def _agrees(sizes: Mapping[str, int], program: ExportedProgram, module: torch.nn.Module, model: Model) -> bool:
    """Whether both compute the same at `sizes`, or the module does not run there; a program that raises does not agree."""
    given = inputs.make(model, sizes, model.seed)
    try:
        with restore_buffers(module), _seeded(model):
            want = run_eager(module, model, given)
    except LoadError:
        return True
    arguments = {**given, **{name: int(given[name]) for name in model.ints}, **model.constants}
    captured = program.module(check_guards=False)
    try:
        with restore_buffers(captured), _seeded(model), torch.set_grad_enabled(model.mode == "training"):
            got = flatten_outputs(captured(**arguments))
    except Exception:  # noqa: BLE001 - whatever a program of other shapes raises
        return False
    return _same(got, want, model)


@contextmanager
def _seeded(model: Model) -> Iterator[None]:
    """Let a model that draws random numbers draw the same ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(model.seed)
        yield


def _same(got: Outputs, want: Outputs, model: Model) -> bool:
    if got.tensors.keys() != want.tensors.keys():
        return False
    return all(compare(got.tensors[name].detach(), tensor.detach(), tolerance_of(tensor.dtype, model.tolerances, tensor)).agrees
               for name, tensor in want.tensors.items())
