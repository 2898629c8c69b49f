"""Evaluate dim expressions and guards at sizes of their symbols, as Python computes them."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lowering.sizes.parsing import Term, parse
from lowering.sizes.parsing import Unknown as Unknown
from lowering.sizes.ranges import ceildiv
from lowering.sizes.spelling import spell


class Undefined(Unknown):
    """An expression has no value at these sizes: it divides by 0, or takes the root of a negative number."""


_LARGEST_EXPONENT = 4096  # a larger power of an int is no size, and takes long


def _raise(base: Any, exponent: Any) -> Any:
    if isinstance(base, int) and isinstance(exponent, int) and abs(base) > 1 and exponent > _LARGEST_EXPONENT:
        raise Unknown(f"{base} ** {exponent} is no size")
    value = operator.pow(base, exponent)
    if isinstance(value, complex):
        raise Undefined(f"{base} ** {exponent} is no real number")
    return value


OPERATIONS: dict[str, Callable[..., Any]] = {
    "add": operator.add, "sub": operator.sub, "mul": operator.mul, "neg": operator.neg, "abs": abs, "max": max, "min": min, "pow": _raise,
    "floordiv": operator.floordiv, "mod": operator.mod, "truediv": operator.truediv, "ceildiv": ceildiv,
    "modular_indexing": lambda base, divisor, modulus: base // divisor % modulus,
    "floor": math.floor, "ceil": math.ceil, "trunc": math.trunc, "round": round, "round_decimal": round, "float": float,
    "lshift": operator.lshift, "rshift": operator.rshift, "bitand": operator.and_, "bitor": operator.or_, "bitxor": operator.xor,
    "eq": operator.eq, "ne": operator.ne, "le": operator.le, "lt": operator.lt, "ge": operator.ge, "gt": operator.gt, "not": operator.not_,
    **{name: getattr(math, name)
       for name in ("sqrt", "exp", "log", "log2", "cos", "sin", "tan", "cosh", "sinh", "tanh", "acos", "asin", "atan", "asinh")},
}  # fmt: skip


def evaluate(expression: int | str | Term, sizes: Mapping[str, int]) -> Any:
    """Return the number (of a dim) or bool (of a guard) that `expression` is at `sizes`. A whole float becomes an int.

    Raises Unknown if it cannot be computed, and Undefined if it has no value.
    """
    if isinstance(expression, int):
        return expression
    term = parse(expression) if isinstance(expression, str) else expression
    try:
        value = _evaluate(term, sizes)
    except Unknown:
        raise
    except (ArithmeticError, ValueError) as error:
        raise Undefined(f"cannot evaluate '{print_expression(expression)}': {error}") from None
    except TypeError as error:  # the bits of a float
        raise Unknown(f"cannot evaluate '{print_expression(expression)}': {error}") from None
    return int(value) if isinstance(value, float) and value.is_integer() else value


def print_expression(expression: int | str | Term) -> str:
    return spell(expression) if isinstance(expression, Term) else str(expression)


def shape_at(dims: Sequence[int | str], sizes: Mapping[str, int]) -> tuple[int, ...]:
    """Return the shape that `dims` have at `sizes`. Raises Undefined if a dim is no whole number there, such as `n/2` at an odd n."""
    shape = tuple(evaluate(dim, sizes) for dim in dims)
    if broken := [f"{dim} is {size}" for dim, size in zip(dims, shape, strict=True) if not isinstance(size, int)]:
        raise Undefined(f"no shape: {', '.join(broken)}")
    return shape


def symbols_in(expression: int | str) -> set[str]:
    """Return the symbols of a dim or guard. Raises Unknown if it cannot be read."""
    return set() if isinstance(expression, int) else set(parse(expression).symbols())


def text(sizes: Mapping[str, int]) -> str:
    """Format sizes as `batch=3, seq=17`, or as `its only shape` if there are no symbols."""
    return ", ".join(f"{name}={size}" for name, size in sizes.items()) or "its only shape"


def _evaluate(term: Term, sizes: Mapping[str, int]) -> Any:
    match term.op:
        case "number":
            return term.value
        case "symbol":
            if term.value not in sizes:
                raise Unknown(f"symbol '{term.value}' has no size here")
            return sizes[str(term.value)]
        case "and":  # what a false part guards is not computed
            return all(_evaluate(part, sizes) for part in term.operands)
        case "or":
            return any(_evaluate(part, sizes) for part in term.operands)
        case "where":
            condition, then, otherwise = term.operands
            return _evaluate(then if _evaluate(condition, sizes) else otherwise, sizes)
    return OPERATIONS[term.op](*(_evaluate(operand, sizes) for operand in term.operands))
