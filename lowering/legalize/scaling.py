"""Barriers between arithmetic with constants that a compiler must not merge, and between a mask and the factor beside it.

XLA rewrites (x * a) * b as x * (a * b), and (x + a) + b as x + (a + b). That overflows where a * b does, hides an overflow of x * a,
and loses the rounding of x + a, which may be its purpose. It rewrites x * convert(mask) as select(mask, x, 0), which drops NaN and
infinity.
"""

from __future__ import annotations

import math
from typing import Any

from torch_mlir import ir

from lowering.legalize.inference.matchers import BROADCASTS, RESHAPES, read_constant

# The largest power of two, up or down, that a product of constants may come to.
_RANGE = {"f16": 14, "bf16": 126, "f32": 126, "f64": 1022}
_SCALES = ("stablehlo.multiply", "stablehlo.divide")
_OFFSETS = ("stablehlo.add", "stablehlo.subtract")


def separate(block: ir.Block) -> None:
    """Put an optimization barrier before each op of a block, nested ones included, whose constant must not be merged with those before
    it.
    """
    chains: dict[Any, tuple[str, list[float]]] = {}
    for op in list(block.operations):
        operation = op.operation
        for region in operation.regions:
            for inner in region.blocks:
                separate(inner)
        if (mask := _find_mask(operation)) is not None:
            _put_barrier(operation, mask)
        step = _read_step(operation)
        if step is None:
            continue
        source, kind, constant = step
        before_kind, before = chains.get(source, ("", []))
        constants = [*before, constant] if before_kind == kind else [constant]
        if len(constants) > 1 and not _may_merge(kind, constants, str(ir.RankedTensorType(source.type).element_type)):
            _put_barrier(operation, source)
            constants = [constant]
        chains[operation.results[0]] = kind, constants


def _put_barrier(operation: Any, source: Any) -> None:
    with ir.InsertionPoint(operation), operation.location:
        barrier = ir.Operation.create("stablehlo.optimization_barrier", results=[source.type], operands=[source])
    operation.operands[list(operation.operands).index(source)] = barrier.result


def _find_mask(op: Any) -> Any | None:
    """Return the factor of a product of floats that is a bool, converted, if the other one may be NaN or infinite."""
    if op.name != "stablehlo.multiply" or str(ir.RankedTensorType(op.results[0].type).element_type) not in _RANGE:
        return None
    masks = [_is_mask(operand) for operand in op.operands]
    if masks[0] == masks[1] or any(_read_constant(operand) is not None for operand in op.operands):
        return None
    return op.operands[masks.index(True)]


def _is_mask(value: Any) -> bool:
    while not isinstance(value.owner, ir.Block) and value.owner.name in (*BROADCASTS, *RESHAPES):
        value = value.owner.operands[0]
    if isinstance(value.owner, ir.Block) or value.owner.name != "stablehlo.convert":
        return False
    return str(ir.RankedTensorType(value.owner.operands[0].type).element_type) == "i1"


def _read_step(op: Any) -> tuple[Any, str, float] | None:
    """Return the value that a constant scales or shifts, and the amount, which for a scale is its power of two."""
    if op.name not in (*_SCALES, *_OFFSETS):
        return None
    left, right = op.operands
    if str(ir.RankedTensorType(left.type).element_type) not in _RANGE:
        return None
    first, second = _read_constant(left), _read_constant(right)
    if (first is None) == (second is None) or (first is not None and op.name in ("stablehlo.divide", "stablehlo.subtract")):
        return None
    source, constant = (left, float(second)) if first is None else (right, float(first))  # type: ignore[arg-type]
    if constant == 0 or not math.isfinite(constant):
        return None
    if op.name in _OFFSETS:
        return source, "offset", constant if op.name == "stablehlo.add" else -constant
    return source, "scale", math.log2(abs(constant)) * (1 if op.name == "stablehlo.multiply" else -1)


def _read_constant(value: Any) -> Any | None:
    """Return the number that all elements of a value have, if it is a constant, possibly converted and broadcast."""
    while not isinstance(value.owner, ir.Block) and value.owner.name in ("stablehlo.convert", *BROADCASTS, *RESHAPES):
        value = value.owner.operands[0]
    return read_constant(value)


def _may_merge(kind: str, constants: list[float], element: str) -> bool:
    """Return whether the last constant may be merged with any number of those before it."""
    last, total = constants[-1], 0.0
    if kind == "offset":
        return all(constant * last > 0 for constant in constants)
    for power in reversed(constants):
        total += power
        if abs(total) >= _RANGE[element]:
            return False
    # up and down again: the step between may overflow where both together do not
    return all(power * last >= 0 or max(abs(power), abs(last)) < _RANGE[element] / 2 for power in constants)
