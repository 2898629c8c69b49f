"""Declared relations between sizes (ranges, multiples, equal dims, guards), each broken alone, and what a program says to that."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass

from lowering.eager import inputs
from lowering.errors import Refused, StageFailed
from lowering.ir import mlir
from lowering.level import Level, Program
from lowering.model import Symbol
from lowering.numerics.coverage.corners import Sizes
from lowering.numerics.coverage.space import Space, find_largest, holds_if_known
from lowering.numerics.running.shape_refinement import Assertions
from lowering.sizes import evaluation as sizes_at
from lowering.sizes.dims import Affine
from lowering.types import DTYPES

_DRAWN = 2048  # sizes that are drawn in search of those that break one guard alone

Shapes = dict[str, tuple[int, ...]]


@dataclass(frozen=True)
class Breach:
    """Shapes of the inputs that break one relation alone; why: the relation, in words. sizes: of the symbols, for Python ints."""

    why: str
    shapes: Shapes
    sizes: Sizes


@dataclass(frozen=True)
class Answers:
    """The answers of a program to each breach.

    refused: its words. accepted: the relations that no assertion of it covers. undecided: those that no shape decides.
    """

    refused: tuple[str, ...] = ()
    accepted: tuple[str, ...] = ()
    undecided: tuple[str, ...] = ()


def read_answers(program: Program, text: str, space: Space) -> Answers:
    """Return the program's answer to each broken relation, or no answers if it was lowered without assertions. text: the program's."""
    assertions = Assertions.extract(text)
    above = program.at(Level.STABLEHLO)
    if assertions.module is None and (above is None or not carries_assertions(above)):
        return Answers()
    return ask(program, space, assertions)


def carries_assertions(program: Program) -> bool:
    """Return whether an HLO program has a shape assertion."""
    calls = (operation for operation in mlir.walk_operations(program.ir) if operation.name.endswith(".custom_call"))
    return any("shape_assertion" in str(operation.attributes["call_target_name"]) for operation in calls)


def ask(program: Program, space: Space, assertions: Assertions) -> Answers:
    """Break each declared relation alone, and collect what the assertions of an HLO program say.

    A program that would fail without an assertion counts as accepting.
    """
    assert program.signature is not None
    refused, accepted, undecided = [], [], []
    for breach in list_breaches(space):
        shapes = [(program.weights[argument.name].dtype, tuple(program.weights[argument.name].shape)) if argument.kind != "input"
                  else (DTYPES[argument.dtype].torch, breach.shapes[argument.name]) for argument in program.signature.arguments]
        known = {position: breach.sizes[argument.value] for position, argument in enumerate(program.signature.arguments)
                 if argument.value is not None}
        try:
            assertions.check(shapes, known)
        except Refused as error:
            refused.append("; ".join(problem.cause for problem in error.problems))
        except StageFailed:
            undecided.append(breach.why)
        else:
            accepted.append(breach.why)
    return Answers(tuple(refused), tuple(accepted), tuple(undecided))


def list_breaches(space: Space) -> Iterator[Breach]:
    """Return every relation that the model declares or the exported program needs, broken alone where that is possible."""
    for why, sizes in list_outside(space):
        yield Breach(why, inputs.compute_shapes(space.model, space.arguments(sizes)), sizes)
    yield from _list_unequal(space)
    yield from _find_unguarded(space)


_LARGEST = (1 << 31) - 1  # the largest size that HLO reads: no program can refuse a larger one


def list_outside(space: Space) -> Iterator[tuple[str, Sizes]]:
    """Yield (what is broken, sizes) for every declared symbol: the sizes just outside its range, and one that is no multiple."""
    for name, symbol in space.model.symbols.items():
        step = symbol.multiple_of
        beyond = [symbol.smallest - step, *([] if symbol.max is None else [find_largest(symbol) + step])]
        wrong = [(size, f"{name} must be {symbol}, and is {size}") for size in beyond if 0 <= size <= _LARGEST]
        if step > 1 and (size := _pick_between(symbol, space.example[name])) is not None:
            wrong.append((size, f"{name} must be a multiple of {step}, and is {size}"))
        for size, why in wrong:
            sizes = {**space.example, name: size}
            if all(dim.at(sizes) >= 0 for value in space.model.leaves.values() for dim in value.dims() if isinstance(dim, Affine)):
                yield why, sizes


def _pick_between(symbol: Symbol, example: int) -> int | None:
    """Return a size inside the range that is no multiple."""
    near = (example + 1, example - 1)
    return next((size for size in near if size >= symbol.min and (symbol.max is None or size <= symbol.max)), None)


def _list_unequal(space: Space) -> Iterator[Breach]:
    """Return each dim of a symbol at another size than the first dim of that symbol, which tells its size."""
    shapes = inputs.compute_shapes(space.model, space.arguments(space.example))
    seen: set[str] = set()
    for argument in space.signature.inputs:
        for position, dim in enumerate(argument.dims):
            symbols = sizes_at.symbols_in(dim)
            if len(symbols) != 1 or not symbols <= space.symbols.keys():
                continue
            (name,) = symbols
            if name not in seen:
                seen.add(name)
                continue
            other = _find_other(space, name)
            if other is None or (size := _evaluate(dim, {**space.example, name: other})) in (None, shapes[argument.name][position]):
                continue
            assert size is not None
            changed = tuple(size if index == position else kept for index, kept in enumerate(shapes[argument.name]))
            yield Breach(f"dim {position} of {argument.name} must be {dim} = {shapes[argument.name][position]}, and is {size}",
                         {**shapes, argument.name: changed}, space.example)


def _find_other(space: Space, name: str) -> int | None:
    """Return another size of a symbol that its range and the guards admit."""
    symbol, size = space.symbols[name], space.example[name]
    steps = (1, -1, 2, -2)
    found = [size + step * symbol.multiple_of for step in steps if symbol.admits(size + step * symbol.multiple_of)]
    return next((other for other in found if space.admits({**space.example, name: other})), found[0] if found else None)


def _find_unguarded(space: Space) -> Iterator[Breach]:
    """Find, for every guard, sizes inside the ranges that break it and no other."""
    guards = space.signature.guards
    missing = dict.fromkeys(guards)
    if not guards or not space.symbols:
        return
    for sizes in _draw_candidates(space):
        broken = [guard for guard in guards if not holds_if_known(guard, sizes)]
        if len(broken) == 1 and broken[0] in missing and all(symbol.admits(sizes[name]) for name, symbol in space.symbols.items()):
            del missing[broken[0]]
            yield Breach(f"the exported program needs {broken[0]}, and is given {sizes_at.text(sizes)}",
                         inputs.compute_shapes(space.model, space.arguments(sizes)), sizes)
        if not missing:
            return


def _draw_candidates(space: Space) -> Iterator[dict[str, int]]:
    draw, low, high = random.Random(0), space.box(0.0), space.box(1.0)
    values = {name: sorted({low[name], high[name], space.example[name]}) for name in space.symbols}
    yield from (dict(zip(values, chosen, strict=True)) for chosen in itertools.islice(itertools.product(*values.values()), _DRAWN))
    for count in range(_DRAWN):
        steps = 64 if count % 2 else 1024
        top = {name: min(high[name], low[name] + steps * symbol.multiple_of) for name, symbol in space.symbols.items()}
        yield {name: draw.randrange(low[name], top[name] + 1, symbol.multiple_of) for name, symbol in space.symbols.items()}


def _evaluate(dim: int | str, sizes: Sizes) -> int | None:
    try:
        return int(sizes_at.evaluate(dim, sizes))
    except sizes_at.Unknown:
        return None
