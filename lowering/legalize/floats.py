"""Emit floats of sizes: float64 on 0-d tensors, in the order in which Python computes them."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from typing import Any

from torch_mlir import ir

from lowering.sizes.real import Real

_TYPE = "tensor<f64>"
_NAMES = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "neg": "negate", "abs": "abs", "max": "maximum",
    "min": "minimum",
    "pow": "power", "floor": "floor", "ceil": "ceil", "round": "round_nearest_even", "sqrt": "sqrt", "exp": "exponential", "log": "log",
    "cos": "cosine", "sin": "sine", "tan": "tan", "tanh": "tanh",
}  # fmt: skip


def build(emitter: Any, value: Real, element: str) -> ir.Value:
    """Convert `value` to a `tensor<element>`. emitter: an `emitter.Emitter`."""
    if element != "f64":
        if value.op == "truediv":  # of an op on floats of that type
            return emitter.op("stablehlo.divide", [emitter.size(operand, element) for operand in value.operands], f"tensor<{element}>")
        return emitter.op("stablehlo.convert", [emitter.size(value, "f64")], f"tensor<{element}>")
    if value.op == "number":
        return number(emitter, value.number)
    if value.op == "select":
        condition, *choices = value.operands
        return emitter.op("stablehlo.select", [emitter.condition(condition), *(emitter.size(choice, "f64") for choice in choices)], _TYPE)
    if value.op == "float":
        return emitter.op("stablehlo.convert", [emitter.size(value.operands[0], "i64")], _TYPE)
    operands = [emitter.size(operand, "f64") for operand in value.operands]
    if value.op in _NAMES:
        return emitter.op(f"stablehlo.{_NAMES[value.op]}", operands, _TYPE)
    return _COMPOSED[value.op](emitter, *operands)


def number(emitter: Any, value: float) -> ir.Value:
    bits = struct.unpack("<Q", struct.pack("<d", value))[0]
    return emitter.constant(f"dense<0x{bits:016X}>", _TYPE)


def _select(emitter: Any, direction: str, left: ir.Value, right: ir.Value, then: ir.Value, otherwise: ir.Value) -> ir.Value:
    return emitter.op("stablehlo.select", [emitter.compare(direction, left, right), then, otherwise], _TYPE)


def _trunc(emitter: Any, value: ir.Value) -> ir.Value:
    """Round toward zero."""
    down, up = emitter.op("stablehlo.floor", [value], _TYPE), emitter.op("stablehlo.ceil", [value], _TYPE)
    return _select(emitter, "LT", value, number(emitter, 0.0), up, down)


def _modulo(emitter: Any, left: ir.Value, right: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Return the remainder with the sign of the divisor, and 1 if that differs from the remainder toward zero, else 0."""
    zero, one = number(emitter, 0.0), number(emitter, 1.0)
    rest = emitter.op("stablehlo.remainder", [left, right], _TYPE)
    differ = emitter.op("stablehlo.xor", [emitter.compare("LT", rest, zero), emitter.compare("LT", right, zero)], "tensor<i1>")
    off = emitter.op("stablehlo.and", [differ, emitter.compare("NE", rest, zero)], "tensor<i1>")
    moved = emitter.op("stablehlo.select", [off, emitter.op("stablehlo.add", [rest, right], _TYPE), rest], _TYPE)
    return moved, emitter.op("stablehlo.select", [off, one, zero], _TYPE)


def _mod(emitter: Any, left: ir.Value, right: ir.Value) -> ir.Value:
    return _modulo(emitter, left, right)[0]


def _floordiv(emitter: Any, left: ir.Value, right: ir.Value) -> ir.Value:
    """Divide as CPython's float_floor_div does: the exact multiple of the divisor, divided and rounded to the nearest integer."""
    rest = emitter.op("stablehlo.remainder", [left, right], _TYPE)
    _, more = _modulo(emitter, left, right)
    whole = emitter.op("stablehlo.divide", [emitter.op("stablehlo.subtract", [left, rest], _TYPE), right], _TYPE)
    quotient = emitter.op("stablehlo.subtract", [whole, more], _TYPE)
    down = emitter.op("stablehlo.floor", [quotient], _TYPE)
    left_over = emitter.op("stablehlo.subtract", [quotient, down], _TYPE)
    return _select(emitter, "GT", left_over, number(emitter, 0.5), emitter.op("stablehlo.add", [down, number(emitter, 1.0)], _TYPE), down)


def _log2(emitter: Any, value: ir.Value) -> ir.Value:
    """Return the quotient of logarithms, corrected for powers of 2, which it misses by a rounding."""
    quotient = emitter.op("stablehlo.divide", [emitter.op("stablehlo.log", [value], _TYPE), number(emitter, math.log(2.0))], _TYPE)
    whole = emitter.op("stablehlo.round_nearest_even", [quotient], _TYPE)
    power = emitter.op("stablehlo.power", [number(emitter, 2.0), whole], _TYPE)
    return _select(emitter, "EQ", power, value, whole, quotient)


_COMPOSED: dict[str, Callable[..., ir.Value]] = {"trunc": _trunc, "mod": _mod, "floordiv": _floordiv, "log2": _log2}
