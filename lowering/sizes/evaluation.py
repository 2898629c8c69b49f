"""Dim expressions and guards of a signature, evaluated at sizes of its symbols."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "Max": max, "Min": min, "max": max, "min": min, "Mod": operator.mod, "PythonMod": operator.mod, "FloorDiv": operator.floordiv,
    "CleanDiv": operator.floordiv, "IntTrueDiv": operator.truediv, "CeilDiv": lambda a, b: -(-a // b), "floor": math.floor,
    "ceiling": math.ceil, "Abs": abs, "abs": abs,
    "Eq": operator.eq, "Ne": operator.ne, "Le": operator.le, "Lt": operator.lt, "Ge": operator.ge, "Gt": operator.gt,
    "And": lambda *parts: all(parts), "Or": lambda *parts: any(parts), "Not": operator.not_,
}  # fmt: skip

_OPERATORS: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.FloorDiv: operator.floordiv, ast.Div: operator.truediv,
    ast.Mod: operator.mod, ast.Pow: operator.pow, ast.USub: operator.neg, ast.Not: operator.not_,
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.LtE: operator.le, ast.Lt: operator.lt, ast.GtE: operator.ge, ast.Gt: operator.gt,
}  # fmt: skip


class Unknown(ValueError):
    """An expression uses a symbol without a size, or a form that is not arithmetic on sizes."""


def evaluate(expression: int | str, sizes: Mapping[str, int]) -> Any:
    """The int (of a dim) or bool (of a guard) that `expression` is at `sizes`; Unknown when it cannot be told."""
    if isinstance(expression, int):
        return expression
    try:
        value = _evaluate(ast.parse(expression, mode="eval").body, sizes)
    except (SyntaxError, ZeroDivisionError) as error:
        raise Unknown(f"cannot evaluate '{expression}': {error}") from None
    return int(value) if isinstance(value, float) and value.is_integer() else value


def shape_at(dims: Iterable[int | str], sizes: Mapping[str, int]) -> tuple[int, ...]:
    """The shape that `dims` are at `sizes`."""
    return tuple(evaluate(dim, sizes) for dim in dims)


def symbols_in(expression: int | str) -> set[str]:
    """The symbols that a dim or guard is written in."""
    if isinstance(expression, int):
        return set()
    return {node.id for node in ast.walk(ast.parse(expression, mode="eval")) if isinstance(node, ast.Name)} - set(FUNCTIONS)


def text(sizes: Mapping[str, int]) -> str:
    """`batch=3, seq=17`; `its only shape` for no symbols."""
    return ", ".join(f"{name}={size}" for name, size in sizes.items()) or "its only shape"


def _evaluate(node: ast.expr, sizes: Mapping[str, int]) -> Any:
    match node:
        case ast.Constant(value=int() | float() as value):
            return value
        case ast.Name(id=name):
            if name not in sizes:
                raise Unknown(f"symbol '{name}' has no size here")
            return sizes[name]
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_evaluate(operand, sizes))
        case ast.BinOp(op=op, left=left, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_evaluate(left, sizes), _evaluate(right, sizes))
        case ast.BoolOp(op=op, values=values):
            parts = [_evaluate(value, sizes) for value in values]
            return all(parts) if isinstance(op, ast.And) else any(parts)
        case ast.Compare(left=left, ops=ops, comparators=comparators) if all(type(op) in _OPERATORS for op in ops):
            terms = [_evaluate(term, sizes) for term in (left, *comparators)]
            return all(_OPERATORS[type(op)](a, b) for op, a, b in zip(ops, terms, terms[1:], strict=False))
        case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=args) if name in FUNCTIONS:
            return FUNCTIONS[name](*(_evaluate(argument, sizes) for argument in args))
    raise Unknown(f"'{ast.unparse(node)}' is not arithmetic on sizes")
