"""Arithmetic that gives one of its operands back, or the same in fewer ops: only what holds for every number of the type, NaN and -0
included.
"""

from __future__ import annotations

from typing import Any

from torch_mlir import ir

from lowering.ir import builtin
from lowering.legalize.inference import iotas
from lowering.legalize.inference.matchers import read_constant
from lowering.legalize.rewriter import Rewrite


def neutral(op: Any, rewrite: Rewrite) -> None:
    """Replace x*1, x/1, x-0, `x and true`, and x+0 of integers by x. x+0 of floats stays, because it turns -0 into 0."""
    left, right = op.operands
    for operand, other, commutes in ((left, right, True), (right, left, op.name not in ("stablehlo.subtract", "stablehlo.divide"))):
        if commutes and operand.type == op.results[0].type and _is_neutral(op, _number(other, rewrite), rewrite):
            rewrite.replace(op.results[0], operand)
            return


def _number(value: Any, rewrite: Rewrite) -> Any | None:
    """Return the number that all elements of `value` have, if it is a constant or known from sizes."""
    held = iotas.find_map(value, rewrite.known)
    known = None if held is None or held.number is None else held.number.constant
    return read_constant(value) if known is None else known


def _is_neutral(op: Any, number: Any | None, rewrite: Rewrite) -> bool:
    if number is None:
        return False
    match op.name:
        case "stablehlo.multiply" | "stablehlo.divide":
            return bool(number == 1)
        case "stablehlo.subtract":
            return bool(number == 0)
        case "stablehlo.add":
            return bool(number == 0) and not rewrite.known.is_float(op.results[0])
        case "stablehlo.and":
            return rewrite.known.is_bool(op.results[0]) and bool(number)
        case "stablehlo.or":
            return rewrite.known.is_bool(op.results[0]) and not number
    return False


def power(op: Any, rewrite: Rewrite) -> None:
    """Replace x^2 by x*x and x^3 by x*x*x, as eager computes them, and x^1 by x."""
    base, exponent = op.operands[0], read_constant(op.operands[1])
    if exponent not in (1, 2, 3) or not rewrite.known.is_float(base) or base.type != op.results[0].type:
        return
    product = base
    with ir.InsertionPoint(op), op.location:
        for _ in range(int(exponent) - 1):
            product = ir.Operation.create("stablehlo.multiply", results=[base.type], operands=[product, base]).result
            rewrite.known.learn_dims(product, rewrite.known.dims(base))
    rewrite.replace(op.results[0], product)


def convert(op: Any, rewrite: Rewrite) -> None:
    """Remove a conversion to the same type, and skip a conversion before it that loses nothing."""
    source, result = op.operands[0], op.results[0]
    inner = None if isinstance(source.owner, ir.Block) or source.owner.name != "stablehlo.convert" else source.owner.operands[0]
    if inner is not None and _skips(builtin.read_element(inner), builtin.read_element(source), builtin.read_element(result)):
        if inner.type == result.type:
            rewrite.replace(result, inner)
            return
        if inner.type != source.type:
            op.operands[0] = source = inner
    if source.type == result.type:
        rewrite.replace(result, source)


_MANTISSA = {"f64": 53, "f32": 24, "bf16": 8, "f16": 11}


def _skips(first: str, between: str, last: str) -> bool:
    """Return whether first -> between -> last equals first -> last: `between` changes no number, and integers are rounded once."""
    return _holds(between, first) and (first in _MANTISSA or last not in ("f16", "bf16"))


def _holds(wide: str, narrow: str) -> bool:
    """Return whether `wide` can represent every number of `narrow`."""
    if wide == narrow:
        return True
    if wide in _MANTISSA and narrow in _MANTISSA:
        return wide == "f64" or (wide == "f32" and narrow != "f64")
    if narrow in _MANTISSA or wide == "i1" or not narrow.lstrip("ui").isdigit():
        return False
    bits = _magnitude(narrow)
    if wide in _MANTISSA:
        return bits <= _MANTISSA[wide]
    return wide.lstrip("ui").isdigit() and bits <= _magnitude(wide) and (wide.startswith("i") or narrow.startswith("ui") or narrow == "i1")


def _magnitude(element: str) -> int:
    """Return the number of bits of the largest number. An i1 holds 0 and 1."""
    width = int(element.lstrip("ui"))
    return width if element.startswith("ui") or width == 1 else width - 1
