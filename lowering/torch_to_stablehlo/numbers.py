"""Arithmetic on Python numbers that torch-mlir does not lower: floats are float64, as Python's."""

from __future__ import annotations

from collections.abc import Sequence

from torch_mlir import ir

from lowering.torch_to_stablehlo.rewriting import Call, Rule, rule

_MIXED = ("float", "int_float", "float_int")


def _floats(name: str) -> Rule:
    """Create an op of arith or math on floats. Ints among the operands become floats, as does the result of ints."""

    def apply(call: Call) -> Sequence[ir.Value]:
        return [call.make(name, [call.real(position) for position in range(len(call.op.operands))], "f64")]

    return apply


def _ints(name: str) -> Rule:
    def apply(call: Call) -> Sequence[ir.Value]:
        return [call.make(name, [call.integer(position) for position in range(len(call.op.operands))], "i64")]

    return apply


def _make_comparison(predicate: int) -> Rule:
    """Return the rule of a comparison. predicate: arith's number of an ordered comparison, or of `une`."""

    def apply(call: Call) -> Sequence[ir.Value]:
        return [_compare(call, predicate, call.real(0), call.real(1))]

    return apply


def _compare(call: Call, predicate: int, left: ir.Value, right: ir.Value) -> ir.Value:
    return call.make("arith.cmpf", [left, right], "i1", predicate=f"{predicate} : i64", fastmath="#arith.fastmath<none>")


for _torch, _name in {"add": "arith.addf", "sub": "arith.subf", "div": "arith.divf"}.items():
    rule(*(f"aten.{_torch}.{form}" for form in ("int_float", "float_int") if (_torch, form) != ("add", "float_int")))(_floats(_name))
for _torch, _name in {"prim.max": "arith.maximumf", "prim.min": "arith.minimumf"}.items():
    rule(*(f"{_torch}.{form}" for form in _MIXED))(_floats(_name))
rule(*(f"aten.pow.{form}" for form in (*_MIXED, "int")))(_floats("math.powf"))
for _torch, _name in {"exp": "math.exp", "log": "math.log", "sin": "math.sin", "cos": "math.cos", "tan": "math.tan", "tanh": "math.tanh",
                      "round": "math.roundeven"}.items():  # fmt: skip
    rule(f"aten.{_torch}.int", f"aten.{_torch}.float")(_floats(_name))
rule("aten.sqrt.float")(_floats("math.sqrt"))
rule("prim.abs.float")(_floats("math.absf"))
for _torch, _name in {"__and__": "arith.andi", "__or__": "arith.ori", "__xor__": "arith.xori", "__rshift__": "arith.shrsi"}.items():
    rule(f"aten.{_torch}.int")(_ints(_name))
rule("aten.__lshift__.int")(_ints("arith.shli"))
for _torch, _predicate, _forms in (("eq", 1, _MIXED[1:]), ("gt", 2, ("int_float",)), ("ge", 3, ("int_float",)), ("lt", 4, _MIXED),
                                   ("le", 5, _MIXED),
                                   ("ne", 13, ("float", "int_float"))):  # fmt: skip
    rule(*(f"aten.{_torch}.{form}" for form in _forms))(_make_comparison(_predicate))


@rule("aten.Int.float")
def _truncate(call: Call) -> Sequence[ir.Value]:
    return [call.make("arith.fptosi", [call.real(0)], "i64")]


@rule("aten.floor.float")
def _floor(call: Call) -> Sequence[ir.Value]:
    return [call.make("arith.fptosi", [call.make("math.floor", [call.real(0)], "f64")], "i64")]


@rule(*(f"aten.remainder.{form}" for form in _MIXED))
def _remainder(call: Call) -> Sequence[ir.Value]:
    """Compute a remainder with the sign of the divisor, as Python's."""
    return [_modulo(call, call.real(0), call.real(1))]


@rule(*(f"aten.floordiv.{form}" for form in _MIXED))
def _floordiv(call: Call) -> Sequence[ir.Value]:
    """Divide as CPython does: the quotient without its rest is whole up to a rounding. `floor(a / b)` is not: `1.0 // 0.1` is 9."""
    left, right = call.real(0), call.real(1)
    rest = _modulo(call, left, right)
    whole = call.make("arith.divf", [call.make("arith.subf", [left, rest], "f64"), right], "f64")
    return [call.make("math.roundeven", [whole], "f64")]


def _modulo(call: Call, left: ir.Value, right: ir.Value) -> ir.Value:
    zero = call.make("arith.constant", [], "f64", value="0.0 : f64")
    rest = call.make("arith.remf", [left, right], "f64")
    signs = [_compare(call, 4, value, zero) for value in (rest, right)]
    differ = call.make("arith.xori", signs, "i1")
    is_off = call.make("arith.andi", [differ, _compare(call, 13, rest, zero)], "i1")
    return call.make("arith.select", [is_off, call.make("arith.addf", [rest, right], "f64"), rest], "f64")
