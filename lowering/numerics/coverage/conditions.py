"""Comparisons of sizes that decide a program's branches: the outcome of each at given sizes, computed without refining the program."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from lowering.ir import mlir
from lowering.numerics.running import scalars, shape_refinement
from lowering.signature import Signature
from lowering.sizes import evaluation as sizes_at

PREFIX = "size condition "
_PAIRED = 5  # conditions whose combinations are classes too
_SIGNS = {"EQ": "==", "NE": "!=", "LT": "<", "LE": "<=", "GT": ">", "GE": ">="}
_DIRECTIONS = {"minimum": "LT", "maximum": "GT"}  # they take their first operand where this holds


@dataclass(frozen=True)
class _Step:
    """One op on 0-d tensors.

    op: the op, or its name and direction of comparison. dim: of get_dimension_size, an int or expression of symbols. operands: positions of
    earlier steps.
    """

    op: Any
    element: str
    operands: tuple[int, ...] = ()
    dim: int | str | None = None
    constant: scalars.Number | None = None


@dataclass(frozen=True)
class Conditions:
    """The comparisons, minima and maxima of sizes in the entry function that more than its assertions use.

    texts: by position of the step. numbers: the constants that sizes are computed with; the sizes around them are worth trying.
    """

    steps: tuple[_Step, ...] = ()
    texts: Mapping[int, str] = field(default_factory=dict)
    numbers: tuple[int, ...] = ()

    @staticmethod
    def read(module: str | bytes, signature: Signature) -> Conditions:
        """Return the conditions of a StableHLO or MHLO module (text or bytecode, entry `@main`)."""
        with shape_refinement.context():
            parsed = shape_refinement.parse(module)  # its ops live no longer than it does
            main = mlir.find_main(parsed.body.operations)
            steps: list[_Step] = []
            positions: dict[Any, int] = {}
            for op in main.regions[0].blocks[0].operations:
                step = _read(op.operation, positions, signature)
                if step is not None:
                    positions[op.operation.results[0]] = len(steps)
                    steps.append(step)
            texts = {position: _spell_condition(steps, position) for position, step in enumerate(steps)
                     if _name_op(step) in ("compare", *_DIRECTIONS) and step.op is not None and _is_used(step.op)}
            frozen = tuple(map(_freeze, steps))
        numbers = {int(step.constant) for step in frozen if isinstance(step.constant, int) and not isinstance(step.constant, bool)}
        return Conditions(frozen, {place: text for place, text in texts.items() if text}, tuple(sorted(numbers)))

    def at(self, sizes: Mapping[str, int]) -> dict[str, bool]:
        """Return the value of each condition at `sizes`, by its text, without those that cannot be evaluated."""
        return {text: _compare(step, left, right) for text, step, left, right in self._evaluate(sizes)}

    def limits(self, sizes: Mapping[str, int]) -> list[str]:
        """Return the names of the classes of `sizes` at the limit of a comparison: with one side off by one it is decided otherwise.

        A minimum or maximum has no such limit, since its operands are equal there.
        """
        found = []
        for text, step, left, right in self._evaluate(sizes):
            holds = _compare(step, left, right)
            if step.op[0] not in _DIRECTIONS and any(_compare(step, left + by, right) != holds for by in (-1, 1)):
                found.append(f"{PREFIX}{text} {'holds' if holds else 'fails'} at its limit")
        return found

    def _evaluate(self, sizes: Mapping[str, int]) -> Iterator[tuple[str, _Step, scalars.Number, scalars.Number]]:
        """Yield the text, step and operands of each condition that can be evaluated at `sizes`."""
        known: list[scalars.Number | None] = []
        for step in self.steps if self.texts else ():
            known.append(self._compute_value(step, known, sizes))
        for position, text in self.texts.items():
            step = self.steps[position]
            left, right = (known[operand] for operand in step.operands)
            if left is not None and right is not None:
                yield text, step, left, right

    def _compute_value(self, step: _Step, known: Sequence[scalars.Number | None], sizes: Mapping[str, int]) -> scalars.Number | None:
        if step.constant is not None:
            return step.constant
        if step.dim is not None:
            try:
                return int(sizes_at.evaluate(step.dim, sizes))
            except sizes_at.Unknown:
                return None
        operands = [known[operand] for operand in step.operands]
        return None if None in operands else scalars.apply(step.op[0], step.op[1], step.element, operands)


def _compare(step: _Step, left: scalars.Number, right: scalars.Number) -> bool:
    kind, direction = step.op
    return bool(scalars.COMPARED[_DIRECTIONS.get(kind, direction)](left, right))


def _read(op: Any, positions: Mapping[Any, int], signature: Signature) -> _Step | None:
    """Return the step that an op is; None if it is none, or computes with more than sizes and constants."""
    if len(op.results) != 1 or not op.name.startswith("stablehlo.") or (element := scalars.read_element_type(op.results[0])) is None:
        return None
    name = op.name.removeprefix("stablehlo.")
    if name == "get_dimension_size":
        from jaxlib.mlir import ir

        source = op.operands[0]
        if not isinstance(source.owner, ir.Block):
            return None
        return _Step(None, element, dim=signature.arguments[ir.BlockArgument(source).arg_number].dims[op.attributes["dimension"].value])
    if name == "constant":
        constant = scalars.read_constant(op)
        return None if constant is None else _Step(None, element, constant=constant)
    if not op.operands or any(operand not in positions for operand in op.operands):
        return None
    return _Step(op, element, tuple(positions[operand] for operand in op.operands))


def _name_op(step: _Step) -> str:
    return "" if step.op is None else step.op.name.removeprefix("stablehlo.")


def _freeze(step: _Step) -> _Step:
    """Return `step` with the op's name and direction instead of the op, which lives no longer than its module."""
    return step if step.op is None else replace(step, op=(_name_op(step), scalars.read_direction(step.op)))


def _is_used(op: Any) -> bool:
    """Return whether more than assertions use an op's result."""
    return any(not _asserts(use.owner) for use in op.results[0].uses)


def _asserts(op: Any) -> bool:
    operation = getattr(op, "operation", op)
    if operation.name == "stablehlo.custom_call":
        return bool(operation.attributes["call_target_name"].value == "shape_assertion")
    results = list(operation.results)
    return len(results) == 1 and scalars.read_element_type(results[0]) == "i1" and not _is_used(operation)


def _spell_condition(steps: Sequence[_Step], position: int) -> str:
    """Return a condition in terms of the symbols; empty where sizes have no part in it."""
    step = steps[position]
    if not any(_depends_on_sizes(steps, operand) for operand in step.operands):
        return ""
    left, right = (_spell(steps, operand, 4) for operand in step.operands)
    return f"{left} {_SIGNS[_DIRECTIONS.get(_name_op(step)) or scalars.read_direction(step.op)]} {right}"


def _depends_on_sizes(steps: Sequence[_Step], position: int) -> bool:
    step = steps[position]
    return isinstance(step.dim, str) or any(_depends_on_sizes(steps, operand) for operand in step.operands)


def _spell(steps: Sequence[_Step], position: int, depth: int) -> str:
    step = steps[position]
    if step.constant is not None:
        return str(step.constant)
    if step.dim is not None:
        return str(step.dim)
    if _name_op(step) in ("convert", "reshape"):
        return _spell(steps, step.operands[0], depth)
    return f"{_name_op(step)}({', '.join(_spell(steps, operand, depth - 1) for operand in step.operands)})" if depth else "…"


def name_classes(found: Mapping[str, bool]) -> Iterator[str]:
    """Return the names of the classes that the sizes of `found` belong to: how each condition is decided, and each two of the first."""
    words = [f"{text} {'holds' if holds else 'fails'}" for text, holds in found.items()]
    yield from (PREFIX + word for word in words)
    yield from (f"{PREFIX}{one}, {other}" for one, other in itertools.combinations(words[:_PAIRED], 2))
