"""Compute, at given shapes, sizes that XLA's shape refinement cannot: those from floats, powers, shifts and exclusive ors.

The refinement folds integer arithmetic alone. Every op here follows StableHLO's specification, on 0-d tensors of the entry's head.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from lowering.ir import mlir

Number = int | float | bool

_WRAPPER = "stablehlo.shape_refinement_operand_wrapper"
_MISSED = frozenset({"stablehlo.power", "stablehlo.xor", "stablehlo.shift_left", "stablehlo.shift_right_arithmetic"})


def fold(module: Any) -> None:
    """Put constants in the place of ints and bools of @main that are computed from floats, or by an op that XLA does not fold."""
    from jaxlib.mlir import ir

    main = mlir.find_main(module.body.operations)
    known: dict[Any, Number] = {}
    for operation in main.regions[0].blocks[0].operations:
        op = operation.operation
        value = _compute_value(op, known)
        if value is None:
            continue
        result = op.results[0]
        known[result] = value
        if not isinstance(value, float) and _is_missed(op):
            with ir.InsertionPoint(op):
                text = str(value).lower()
                constant = ir.Operation.create("stablehlo.constant", results=[result.type],
                                               attributes={"value": ir.Attribute.parse(f"dense<{text}> : {result.type}")})
            result.replace_all_uses_with(constant.result)
            known[constant.result] = value


def _is_missed(op: Any) -> bool:
    return op.name in _MISSED or (op.name in ("stablehlo.convert", "stablehlo.compare") and read_element_type(op.operands[0]) == "f64")


def _compute_value(op: Any, known: Mapping[Any, Number]) -> Number | None:
    """Return the number that an op gives; None where its operands do not tell, or it is no op on 0-d tensors."""
    if len(op.results) != 1 or not op.name.startswith("stablehlo."):
        return None
    name = op.name.removeprefix("stablehlo.")
    if name == "get_dimension_size":
        return _read_dimension(op)
    element = read_element_type(op.results[0])
    if element is None:
        return None
    if name == "constant":
        return read_constant(op)
    operands = [known.get(operand) for operand in op.operands]
    if not operands or None in operands:
        return None
    return apply(name, read_direction(op), element, operands)


def read_direction(op: Any) -> str:
    """Return the direction of a comparison (`LT`, `GE`, …), or an empty text for other ops."""
    return str(op.attributes["comparison_direction"]).rpartition(" ")[2].rstrip(">") if op.name == "stablehlo.compare" else ""


def apply(name: str, direction: str, element: str, operands: list[Any]) -> Number | None:
    """Return the result of an op on numbers, as the element type holds it; None where it has none."""
    try:
        return _wrap(_compute(name, direction, element, operands), element)
    except (ArithmeticError, ValueError):
        return None


def _compute(name: str, direction: str, element: str, operands: list[Any]) -> Any:
    match name:
        case "convert":
            return operands[0]
        case "reshape":
            return operands[0]
        case "select":
            return operands[1] if operands[0] else operands[2]
        case "compare":
            return COMPARED[direction](*operands)
    table = _OF_FLOATS if element == "f64" else _OF_INTS
    return table[name](*operands) if name in table else None


def _wrap(value: Any, element: str) -> Number | None:
    """Convert `value` to the element type. Ints wrap around; floats lose their fraction as ints."""
    if value is None or element == "f64":
        return None if value is None else float(value)
    if element == "i1":
        return bool(value)
    width = int(element.removeprefix("i"))
    return (math.trunc(value) + (1 << (width - 1))) % (1 << width) - (1 << (width - 1))


def read_element_type(value: Any) -> str | None:
    """Return the element type of a 0-d tensor that is computed here."""
    text = str(value.type)
    return text[len("tensor<"):-1] if text in ("tensor<f64>", "tensor<i64>", "tensor<i32>", "tensor<i1>") else None


def _read_dimension(op: Any) -> int | None:
    from jaxlib.mlir import ir

    source = op.operands[0]
    owner = source.owner
    if not isinstance(owner, ir.Block) and owner.name == "stablehlo.custom_call" and owner.attributes["call_target_name"].value == _WRAPPER:
        source = owner.operands[0]
    position, type_ = op.attributes["dimension"].value, ir.RankedTensorType(source.type)
    return None if type_.is_dynamic_dim(position) else int(type_.get_dim_size(position))


def read_constant(op: Any) -> Number | None:
    from jaxlib.mlir import ir

    attribute = op.attributes["value"]
    if not isinstance(attribute, ir.DenseIntElementsAttr | ir.DenseFPElementsAttr):
        return None
    number = attribute.get_splat_value().value
    return number if isinstance(number, int | float) else None


def _divide(left: int, right: int) -> int:
    return abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)


def _compute_remainder(left: int, right: int) -> int:
    return left - _divide(left, right) * right


COMPARED: dict[str, Callable[[Any, Any], bool]] = {
    "EQ": operator.eq, "NE": operator.ne, "LT": operator.lt, "LE": operator.le, "GT": operator.gt, "GE": operator.ge,
}  # fmt: skip
_EITHER: dict[str, Callable[..., Any]] = {
    "add": operator.add, "subtract": operator.sub, "multiply": operator.mul, "maximum": max, "minimum": min, "negate": operator.neg,
    "abs": abs,
}  # fmt: skip
_OF_INTS: dict[str, Callable[..., Any]] = {
    **_EITHER, "divide": _divide, "remainder": _compute_remainder,
    "power": lambda base, exponent: pow(base, exponent, 1 << 64) if exponent >= 0
    else None,
    "and": operator.and_, "or": operator.or_, "xor": operator.xor, "not": lambda value: not value if isinstance(value, bool) else ~value,
    "shift_left": operator.lshift, "shift_right_arithmetic": operator.rshift,
}  # fmt: skip
_OF_FLOATS: dict[str, Callable[..., Any]] = {
    **_EITHER, "divide": operator.truediv, "remainder": math.fmod, "power": math.pow, "floor": math.floor, "ceil": math.ceil,
    "round_nearest_even": round, "sqrt": math.sqrt, "exponential": math.exp, "log": math.log, "cosine": math.cos, "sine": math.sin,
    "tan": math.tan, "tanh": math.tanh,
}  # fmt: skip
