"""Rules for functions of sizes that TorchScript or a later level has in another form: each inserts ops that compute the same."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch.fx import Node

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


def rounded(builder: Builder, node: Node) -> Value:
    """The nearest int, the even one of two: TorchScript's is a float."""
    value = builder.number(node, "aten::round", [builder.scalar(node.args[0])], 0.0)
    return builder.number(node, "aten::Int", [value], 0)


def total(builder: Builder, node: Node) -> Value:
    """`sym_sum` of a list."""
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
        return bool(value.node.shape_env.bound_sympy(value.node.expr).lower >= 0)
    return bool(value >= 0)


RULES: dict[Any, Rule] = {
    **dict.fromkeys(ITEMS, insert_item),
    operator.pow: insert_power,
    operator.mod: insert_modulo,
    operator.not_: insert_not,
    torch.sym_not: insert_not,
    math.floor: insert_floor,
    operator.abs: insert_absolute,
    round: rounded,
    torch.sym_sum: total,
    torch.sym_ite: insert_choice,
    operator.lt: compare("aten::lt"),
    operator.le: compare("aten::le"),
    operator.gt: compare("aten::gt"),
    operator.ge: compare("aten::ge"),
    operator.eq: compare("aten::eq"),
    operator.ne: compare("aten::ne"),
}
