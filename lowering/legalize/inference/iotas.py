"""Elements of integer tensors that are computed from iotas and sizes, as affine maps of their index.

Comparisons of two are decided where they can be.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from torch_mlir import ir

from lowering.legalize.inference.affine import AffineMap
from lowering.legalize.inference.known import Known
from lowering.legalize.inference.matchers import find_inserted, read_constant
from lowering.legalize.inference.shapes import integers
from lowering.sizes import expression as ex

Rule = Callable[[Any, Known], AffineMap | None]


def learn(op: Any, known: Known) -> None:
    """Record the affine map of the result of `op`, if a rule gives one."""
    if op.name in _RULES:
        known.learn_affine_map(op.results[0], _RULES[op.name](op, known))


def find_map(value: Any, known: Known) -> AffineMap | None:
    """Return the affine map of the elements of `value`; for a 0-d tensor, its value as a size or as a new atom."""
    if known.is_float(value) or not isinstance(value.type, ir.RankedTensorType):
        return None
    if ir.RankedTensorType(value.type).rank > 0:
        return known.affine_map(value)
    values = known.values(value)
    if values is not None:
        return AffineMap(values[0], ())
    return AffineMap(known.element(value), ()) if _width(value) is not None else None


def decide(op: Any, known: Known) -> bool | None:
    """Decide a comparison: its result, if that is known and the same for all elements, else None."""
    left, right = (find_map(operand, known) for operand in op.operands)
    if left is None or right is None:
        return None
    low, high = (left + right.times(ex.number(-1))).bounds(known.dims(op.results[0]))
    direction = str(op.attributes["comparison_direction"]).rpartition(" ")[2].rstrip(">")
    at_least, at_most = (lambda bound: low is not None and low >= bound), (lambda bound: high is not None and high <= bound)
    match direction:
        case "LT" | "GE":
            found = True if at_most(-1) else False if at_least(0) else None
        case "GT" | "LE":
            found = True if at_least(1) else False if at_most(0) else None
        case _:
            found = False if at_least(1) or at_most(-1) else True if low == high == 0 else None
    return found if found is None or direction in ("LT", "GT", "EQ") else not found


def _iota(op: Any, known: Known) -> AffineMap | None:
    axis = op.attributes["iota_dimension"].value
    return AffineMap(ex.ZERO, tuple(ex.ONE if position == axis else ex.ZERO for position in range(len(known.dims(op.results[0])))))


def _constant(op: Any, known: Known) -> AffineMap | None:
    number = read_constant(op.results[0])
    if number is None or known.is_float(op.results[0]) or known.is_bool(op.results[0]):
        return None
    return AffineMap(ex.number(number), (ex.ZERO,) * len(known.dims(op.results[0])))


def _broadcast(op: Any, known: Known) -> AffineMap | None:
    map_ = find_map(op.operands[0], known)
    if map_ is None:
        return None
    before, after = known.dims(op.operands[0]), known.dims(op.results[0])
    steps = [ex.ZERO] * len(after)
    for step, dim, target in zip(map_.steps, before, integers(op, "broadcast_dimensions"), strict=True):
        if dim == after[target]:
            steps[target] = step
        elif dim != ex.ONE and step != ex.ZERO:
            return None
    return AffineMap(map_.offset, tuple(steps))


def _reshape(op: Any, known: Known) -> AffineMap | None:
    map_ = find_map(op.operands[0], known)
    if map_ is None:
        return None
    before, after = known.dims(op.operands[0]), known.dims(op.results[0])
    if all(step == ex.ZERO for step in map_.steps):
        return AffineMap(map_.offset, (ex.ZERO,) * len(after))
    wide = [(dim, step) for dim, step in zip(before, map_.steps, strict=True) if dim != ex.ONE]
    if len(after) == 1:  # row by row, each row goes on where the one before ended
        goes_on = all(step == inner * dim for (_, step), (dim, inner) in itertools.pairwise(wide))
        return AffineMap(map_.offset, (wide[-1][1],)) if goes_on else None
    if find_inserted(tuple(dim for dim, _ in wide), after) is None:
        return None
    steps = iter(step for _, step in wide)
    return AffineMap(map_.offset, tuple(ex.ZERO if dim == ex.ONE else next(steps) for dim in after))


def _sum(op: Any, known: Known) -> AffineMap | None:
    left, right = (find_map(operand, known) for operand in op.operands)
    if left is None or right is None:
        return None
    return left + (right if op.name == "stablehlo.add" else right.times(ex.number(-1)))


def _product(op: Any, known: Known) -> AffineMap | None:
    left, right = (find_map(operand, known) for operand in op.operands)
    if left is None or right is None:
        return None
    return left.times(right.number) if right.number is not None else right.times(left.number) if left.number is not None else None


def _convert(op: Any, known: Known) -> AffineMap | None:
    widths = [_width(value) for value in (op.operands[0], op.results[0])]
    return None if None in widths or widths[1] < widths[0] else find_map(op.operands[0], known)  # type: ignore[operator]


def _width(value: Any) -> int | None:
    element = ir.RankedTensorType(value.type).element_type
    return ir.IntegerType(element).width if isinstance(element,
                                                       ir.IntegerType) and str(element).startswith("i") and str(element) != "i1" else None


_RULES: dict[str, Rule] = {
    "stablehlo.iota": _iota, "stablehlo.dynamic_iota": _iota, "stablehlo.constant": _constant, "stablehlo.broadcast_in_dim": _broadcast,
    "stablehlo.dynamic_broadcast_in_dim": _broadcast, "stablehlo.reshape": _reshape, "stablehlo.dynamic_reshape": _reshape,
    "stablehlo.add": _sum, "stablehlo.subtract": _sum, "stablehlo.multiply": _product, "stablehlo.convert": _convert,
}  # fmt: skip
