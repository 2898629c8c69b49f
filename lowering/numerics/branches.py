"""Compare a captured program with its module where the module takes another branch than the one that was captured."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.export import ExportedProgram
from torch.fx import Node

from lowering.eager import inputs
from lowering.eager.arguments import assemble
from lowering.eager.module import restore_buffers, run_eager
from lowering.eager.outputs import Outputs, flatten_outputs
from lowering.errors import LoadError
from lowering.fx import cleanup, results
from lowering.fx.tracing import squeezes
from lowering.model import Built, Model
from lowering.numerics import stated_shapes
from lowering.numerics.comparison import compare, find_tolerance
from lowering.ops.sequences import packed_sequences, recurrent
from lowering.sizes import evaluation
from lowering.stage import Note
from lowering.symbols.attempts import Captured
from lowering.symbols.conditions.branches import Branch
from lowering.symbols.conditions.harmless import Agrees

_MOST_OPS = 1000  # of a program without values that is captured again; one of an 8B decoder, with 2400, takes 9 seconds
_UNCOMPARED = ("aten::sym_", "aten::_assert_", "aten::contiguous", "aten::clone")  # they compute no values, and depend on sizes


@dataclass(frozen=True)
class _Op:
    """An op on tensors. constants: its arguments that are no sizes; is_single: whether it attends from one query to one key."""

    name: str
    rank: int
    constants: tuple[str, ...]
    is_single: bool


def assert_conditions(captured: Captured, built: Built, note: Note) -> Captured:
    """Add the conditions of branches that were not captured to what `captured` asserts, unless it is right at sizes that take them.

    It is right if its results are the module's. A model without values cannot be run: its program is right if a capture at these sizes
    has the same ops. A long one is not captured again; a warning names its branches.
    """
    program, model = captured.program, built.model
    if not captured.branches or program is None:
        return captured
    ops = tuple(_list_ops(program))
    for node, _ in list(squeezes.list_dynamic(program)):
        squeezes.settle(node)
    results.rename_results(program)
    is_run = model.weights == "random"
    compared = [branch for branch in captured.branches
                if branch.fails_at.keys() <= model.symbols.keys() and (is_run or len(ops) <= _MOST_OPS)]
    for branch in captured.branches:
        if branch not in compared:
            note("branch_unchecked", _describe(branch, "what the program computes there was not compared with the model"),
                 branch.condition.text)
    if is_run:
        asserted = tuple(_find_wrong(compared, lambda sizes: _agrees(sizes, program, built.module, model), model))
    else:
        asserted = tuple(_find_wrong(compared, lambda sizes: _has_ops(ops, sizes, built.module, model), model))
    for branch in asserted:
        note("guard_within_range", _describe(branch, "the program refuses these sizes"), branch.condition.text)
    return replace(captured, deferred=(*captured.deferred, *(branch.condition for branch in asserted)))


def _describe(branch: Branch, consequence: str) -> str:
    at = evaluation.text(branch.fails_at)
    line = f" ({branch.condition.line})" if branch.condition.line else ""
    return f"the code was captured for {branch.condition.text} and takes another branch at {at}{line}; {consequence}"


def _find_wrong(branches: Sequence[Branch], agrees: Callable[[Mapping[str, int]], bool], model: Model) -> Iterator[Branch]:
    """Return the branches at whose other sizes the program does not agree with the module, each point looked at once."""
    judged: dict[tuple[tuple[str, int], ...], bool] = {}
    for branch in branches:
        point = tuple(sorted(branch.fails_at.items()))
        if point not in judged:
            judged[point] = agrees({**model.examples(), **branch.fails_at})
        if not judged[point]:
            yield branch


def build_comparison(model: Model, module: torch.nn.Module) -> Agrees:
    """Return a function that compares a program, without its assertions, with the module at given sizes.

    It says no where the module does not run, and where a tensor has another shape than the program states.
    """
    return lambda program, sizes: _agrees(sizes, program, module, model, asserts=False)


def _agrees(sizes: Mapping[str, int], program: ExportedProgram, module: torch.nn.Module, model: Model, asserts: bool = True) -> bool:
    """Return whether both compute the same at `sizes`; a program that raises does not agree.

    Where the module does not run, they agree if the program keeps its assertions.
    """
    given = inputs.make(model, sizes, model.seed)
    try:
        with restore_buffers(module), _seed_draws(model):
            want = run_eager(module, model, given)
    except LoadError:
        return asserts
    arguments = assemble(model, module, {**given, **{name: int(given[name]) for name in model.ints}})
    captured = program.module(check_guards=False)
    if not asserts:
        cleanup.drop_all_assertions(captured)
        stated_shapes.check_at_run(captured)
    try:
        with restore_buffers(captured), _seed_draws(model), torch.set_grad_enabled(model.mode == "training"):
            got = flatten_outputs(captured(**arguments))
    except Exception:  # noqa: BLE001 - whatever a program of other shapes raises
        return False
    return _are_same(got, want, model)


def _has_ops(ops: Sequence[_Op], sizes: Mapping[str, int], module: torch.nn.Module, model: Model) -> bool:
    """Return whether a capture at just these sizes, which needs no values of weights, has these ops; False if the capture fails."""
    weights = (*module.parameters(), *module.buffers())
    mode = next((weight.fake_mode for weight in weights if isinstance(weight, FakeTensor)), None)
    given = {name: int(value) if name in model.ints else mode.from_tensor(value) if mode is not None else value
             for name, value in inputs.make(model, sizes, model.seed).items()}
    try:
        with recurrent.keep_whole(), packed_sequences.keep_padded():
            fixed = torch.export.export(module, (), assemble(model, module, given))
    except Exception:  # noqa: BLE001 - torch raises many kinds
        return False
    found = tuple(_list_ops(fixed))
    return len(found) == len(ops) and all(map(_is_same_op, ops, found))


def _is_same_op(op: _Op, fixed: _Op) -> bool:
    """Return whether an op computes the same as the one captured at fixed sizes. A single key is masked by no causal mask."""
    same = op.constants == fixed.constants or fixed.is_single
    return op.name == fixed.name and op.rank == fixed.rank and same


def _list_ops(program: ExportedProgram) -> Iterator[_Op]:
    for body in cleanup.bodies(program.graph_module):
        for node in cleanup.calls(body):
            if isinstance(node.target, torch._ops.OpOverload) and not node.target._schema.name.startswith(_UNCOMPARED):
                given = (*node.args, *node.kwargs.values())
                constants = tuple(repr(value) for value in given if isinstance(value, bool | float | str | torch.dtype))
                yield _Op(str(node.target), getattr(node.meta.get("val"), "ndim", -1), constants, _is_single(node))


def _is_single(node: Node) -> bool:
    if node.target is not torch.ops.aten.scaled_dot_product_attention.default:
        return False
    lengths = [argument.meta["val"].shape[-2] for argument in node.args[:2]]  # type: ignore[union-attr]
    return all(isinstance(length, int) and length == 1 for length in lengths)


@contextmanager
def _seed_draws(model: Model) -> Iterator[None]:
    """Let a model that draws random numbers draw the same ones."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(model.seed)
        yield


def _are_same(got: Outputs, want: Outputs, model: Model) -> bool:
    if got.tensors.keys() != want.tensors.keys():
        return False
    return all(compare(got.tensors[name].detach(), tensor.detach(), find_tolerance(tensor.dtype, model.tolerances, tensor)).agrees
               for name, tensor in want.tensors.items())
