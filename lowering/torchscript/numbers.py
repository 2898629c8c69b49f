"""Rules for functions of sizes that TorchScript or a later level has in another form: each inserts ops that compute the same."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch.fx import Node

from lowering.ops.symbolic import find_range
from lowering.torchscript.builder import ITEMS, Builder

Value: TypeAlias = torch._C.Value
Rule = Callable[[Builder, Node], Value]


def insert_power(builder: Builder, node: Node) -> Value:
    """Insert a power. TorchScript's power of ints is a float, so a power of a size is a product."""
    factor, exponent = builder.scalar(node.args[0]), node.args[1]
    if not _is_int(node) or not isinstance(exponent, int):
        given = [builder.scalar(argument) for argument in node.args]
        value = builder.number(node, "aten::pow", given, 0.0)
        return builder.number(node, "aten::Int", [value], 0) if _is_int(node) else value
    product = builder.constant(1) if exponent == 0 else factor
    for _ in range(exponent - 1):
        product = builder.number(node, "aten::mul", [product, factor], 0)
    return product


def insert_modulo(builder: Builder, node: Node) -> Value:
    """Insert a remainder with the sign of the divisor.

    At lower levels it has the sign of the dividend, so it is computed by a floor division if one of them can be negative.
    """
    dividend, divisor = (builder.scalar(argument) for argument in node.args)
    if not _is_int(node) or all(map(_is_never_negative, node.args)):
        return builder.number(node, "aten::remainder", [dividend, divisor], node.meta["val"])
    whole = builder.number(node, "aten::floordiv", [dividend, divisor], 0)
    return builder.number(node, "aten::sub", [dividend, builder.number(node, "aten::mul", [whole, divisor], 0)], 0)


def insert_not(builder: Builder, node: Node) -> Value:
    """Insert `!= True` for the `not` of a bool, which has no lowering."""
    return builder.number(node, "aten::ne", [builder.scalar(node.args[0]), builder.constant(True)], True)


def insert_floor(builder: Builder, node: Node) -> Value:
    """Insert floor(x) as -ceil(-x): only ceil has a lowering."""
    value = builder.scalar(node.args[0])
    if value.type().kind() == "IntType":
        return value
    below = builder.number(node, "aten::ceil", [builder.number(node, "aten::neg", [value], 0.0)], 0)
    return builder.number(node, "aten::neg", [below], 0)


def insert_round(builder: Builder, node: Node) -> Value:
    """Insert a rounding to the nearest int, or to digits; ties go to the even neighbor. TorchScript's rounding gives a float."""
    value, digits = builder.scalar(node.args[0]), node.args[1] if len(node.args) > 1 else None
    if digits is None:
        return builder.number(node, "aten::Int", [builder.number(node, "aten::round", [value], 0.0)], 0)
    return _insert_decimal(builder, node, value, int(digits))  # type: ignore[call-overload]


def _insert_decimal(builder: Builder, node: Node, value: Value, digits: int) -> Value:
    """Insert a rounding of a float to `digits` after the point, as Python rounds it: by its exact value, of |value| below 2 ** 17.

    The product with the power of ten may be rounded to a tie that the value is not. `error` is what that rounding lost: the high bits of
    the value times the power are exact, and so are the low bits.
    """
    def compute(kind: str, *operands: Any) -> Value:
        return builder.number(node, f"aten::{kind}", [given if isinstance(given, torch._C.Value) else builder.constant(given)
                                                      for given in operands], 0.0)

    def bound(kind: str, *operands: Any) -> Value:
        return builder.number(node, f"prim::{kind}", [given if isinstance(given, torch._C.Value) else builder.constant(given)
                                                      for given in operands], 0.0)

    power = 10.0 ** abs(digits)
    if digits <= 0:
        scaled = compute("div", value, power)
        return compute("mul", compute("round", scaled), power)
    scaled = compute("mul", value, power)
    high = compute("div", compute("round", compute("mul", value, 2.0**24)), 2.0**24)
    error = compute("add", compute("sub", compute("mul", high, power), scaled), compute("mul", compute("sub", value, high), power))
    nearest = compute("round", scaled)
    off = compute("sub", scaled, nearest)  # exact, 0.5 at most
    distance = compute("sub", 0.5, bound("max", off, compute("neg", off)))
    is_tie = compute("sub", 1.0, bound("min", compute("mul", distance, 1e300), 1.0))
    toward = bound("max", bound("min", compute("mul", error, 1e300), 0.25), -0.25)
    step = compute("round", compute("add", off, compute("mul", toward, is_tie)))
    return compute("div", compute("add", nearest, step), power)


def insert_sum(builder: Builder, node: Node) -> Value:
    """Insert the sum of a list, `sym_sum`."""
    first, *others = (builder.scalar(argument) for argument in node.args[0])  # type: ignore[union-attr]
    for other in others:
        first = builder.number(node, "aten::add", [first, other], node.meta["val"])
    return first


def insert_absolute(builder: Builder, node: Node) -> Value:
    """Insert |x| as max(x, -x)."""
    value = builder.scalar(node.args[0])
    return builder.number(node, "prim::max", [value, builder.number(node, "aten::neg", [value], node.meta["val"])], node.meta["val"])


def insert_choice(builder: Builder, node: Node) -> Value:
    """Insert `sym_ite(condition, one, other)`."""
    condition, *given = (builder.scalar(argument) for argument in node.args)
    chosen = builder.graph.create("prim::If", [condition], 1)
    builder.insert(node, chosen)
    for value in given:
        chosen.addBlock().registerOutput(value)
    chosen.output().setType(given[0].type())
    return chosen.output()


def insert_item(builder: Builder, node: Node) -> Value:
    """Insert the read of a one-element tensor, by its kind of number. An item of unknown kind has no lowering."""
    kinds = {torch.SymInt: "aten::Int", torch.SymFloat: "aten::Float", torch.SymBool: "aten::Bool"}
    return builder.number(node, kinds[type(node.meta["val"])], [builder.scalar(node.args[0])], node.meta["val"])


def compare(kind: str) -> Rule:
    """Return the rule of a comparison. Floats are compared if one operand is an int and the other a float."""

    def rule(builder: Builder, node: Node) -> Value:
        given = [builder.scalar(argument) for argument in node.args]
        if {value.type().kind() for value in given} == {"IntType", "FloatType"}:
            given = [value if value.type().kind() == "FloatType" else builder.number(node, "aten::Float", [value], 0.0) for value in given]
        return builder.number(node, kind, given, True)

    return rule


def _is_int(node: Node) -> bool:
    return isinstance(node.meta["val"], int | torch.SymInt)


def _is_never_negative(argument: Any) -> bool:
    value = argument.meta["val"] if isinstance(argument, Node) else argument
    if isinstance(value, torch.SymInt):
        return bool(find_range(value).lower >= 0)
    return bool(value >= 0)


RULES: dict[Any, Rule] = {
    **dict.fromkeys(ITEMS, insert_item),
    operator.pow: insert_power,
    operator.mod: insert_modulo,
    operator.not_: insert_not,
    torch.sym_not: insert_not,
    math.floor: insert_floor,
    operator.abs: insert_absolute,
    round: insert_round,
    torch.sym_sum: insert_sum,
    torch.sym_ite: insert_choice,
    operator.lt: compare("aten::lt"),
    operator.le: compare("aten::le"),
    operator.gt: compare("aten::gt"),
    operator.ge: compare("aten::ge"),
    operator.eq: compare("aten::eq"),
    operator.ne: compare("aten::ne"),
}
