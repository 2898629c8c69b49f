"""Keep the sizes short that a trace computes from sizes, by replacing long expressions with equal ones.

Padding of TensorFlow's kind makes each size of a layer three times as long as the layer's input, and sympy takes hours after five layers.
Nearly all sizes in models have the form p*s + m*((s + b)//c) + d. A long expression of one symbol, or one with a remainder of a negative
number, is evaluated at every size of its range; where such a form gives the same numbers, it takes the expression's place.

A minimum or maximum, as of the strides of dims that a view merges, loses the operands that never decide it. sympy compares multiples of one
term only, and torch would ask whether `min(128*n + 128, 512*n + 512) == 128*n + 128` at every view of such a tensor.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np
import sympy
from torch.fx.experimental.sym_node import SymNode
from torch.utils._sympy import functions

_LENGTH = 2  # functions (quotients, remainders, maxima, ...) of an expression that is long
_MOST_SIZES = 1 << 16
_EXACT = 1 << 31  # operands up to here have a product in 64 bits
_TRACED = 2  # torch takes no size to be smaller than this, whatever is declared

Values = np.ndarray[Any, np.dtype[Any]]


class _Unknown(Exception):
    """An expression cannot be evaluated."""


@contextmanager
def keep_sizes_short(least: int) -> Iterator[Collection[Any]]:
    """Let torch compute with short and right expressions inside. least: the smallest declared size of any symbol.

    Yields the expressions that were evaluated over the declared range of their symbol.
    """
    found = _Forms(least)
    create, divide = SymNode.__init__, functions.FloorDiv.__dict__["eval"]

    def create_short(self: SymNode, expr: Any, shape_env: Any, pytype: type, *rest: Any, **options: Any) -> None:
        if pytype is int and shape_env is not None and isinstance(expr, sympy.Basic) and expr.args:
            expr = found.shorten(expr, shape_env)
        create(self, expr, shape_env, pytype, *rest, **options)

    def divide_rightly(cls: type, base: Any, divisor: Any) -> Any:
        """Merge (a//b)//c to a//(b*c) for a positive c only. torch does so for a negative c, too."""
        if isinstance(base, functions.FloorDiv) and divisor.is_negative:
            return cls(-base, -divisor)
        return divide.__func__(cls, base, divisor)

    SymNode.__init__ = create_short  # type: ignore[method-assign]
    functions.FloorDiv.eval = classmethod(divide_rightly)  # type: ignore[assignment, arg-type]
    try:
        yield found.found.keys()
    finally:
        SymNode.__init__ = create  # type: ignore[method-assign]
        functions.FloorDiv.eval = divide


@dataclass
class _Forms:
    """The short forms that were found, by expression and range. None: there is none."""

    least: int
    found: dict[tuple[sympy.Basic, int, int], sympy.Expr | None] = field(default_factory=dict)

    def shorten(self, expr: sympy.Expr, shape_env: Any) -> sympy.Expr:
        if isinstance(expr, functions.Min | functions.Max):
            expr = drop_idle_operands(expr)
        is_long = _count_functions(expr, _LENGTH) >= _LENGTH or expr.has(functions.PythonMod)  # torch solves no guard with one of those
        if not is_long or len(expr.free_symbols) != 1:
            return expr
        (symbol,) = expr.free_symbols
        span = shape_env.var_to_range.get(symbol)
        if span is None or not (span.lower.is_Integer and span.upper.is_Integer):
            return expr
        lower, upper = int(span.lower), int(span.upper)
        lower = lower if lower > _TRACED else min(lower, self.least)
        if not 2 < upper - lower < _MOST_SIZES:
            return expr
        key = (expr, lower, upper)
        if key not in self.found:
            self.found[key] = find_closed_form(expr, symbol, lower, upper)
        return self.found[key] or expr


def find_closed_form(expr: sympy.Expr, symbol: sympy.Symbol, lower: int, upper: int) -> sympy.Expr | None:
    """Return p*symbol + m*((symbol + b)//c) + d that equals `expr` at all sizes from `lower` to `upper`, or None if there is none."""
    sizes = np.arange(lower, upper + 1, dtype=np.int64)
    try:
        values = np.broadcast_to(_evaluate(expr, symbol, sizes, {}), sizes.shape)
    except _Unknown:
        return None
    if values.dtype != np.int64:
        return None
    slopes = np.diff(values)
    kinds, counts = np.unique(slopes, return_counts=True)
    if len(kinds) > 2:
        return None
    for p in sorted(kinds.tolist(), key=lambda kind: (kind != 0, -counts[kinds == kind][0])):
        steps = np.flatnonzero(slopes != p)
        c = _find_period(steps, len(values))
        if c is None:
            continue
        m = int(slopes[steps[0]] - p) if len(steps) else 0
        b = int(-(lower + steps[0] + 1) % c) if len(steps) else 0
        rest = values - p * sizes - m * ((sizes + b) // c)
        if (rest == rest[0]).all():
            return _write(symbol, p, m, b, c, int(rest[0]))
    return None


def drop_idle_operands(expr: sympy.Expr) -> sympy.Expr:
    """Return a minimum or maximum without the operands that another one never exceeds, or is never below, at sizes from 0 on.

    This asks no range, so that an export of other ranges has the same sizes.
    """
    is_least = isinstance(expr, functions.Min)
    kept = list(expr.args)
    for operand in expr.args:
        others = (other for other in kept if other is not operand)
        if any(_is_never_negative(operand - other if is_least else other - operand) for other in others):
            kept.remove(operand)
    return expr.func(*kept) if len(kept) < len(expr.args) else expr


def _is_never_negative(expr: sympy.Expr) -> bool:
    """Return whether an expression is a sum of products of sizes and numbers that are not negative. Other forms are not recognized."""
    powers = (factor.as_base_exp() for term in sympy.Add.make_args(sympy.expand(expr)) for factor in sympy.Mul.make_args(term))
    return all(exponent.is_Integer and exponent > 0 and base.is_nonnegative and (base.is_Symbol or base.is_Integer)
               for base, exponent in powers)


def _write(symbol: sympy.Symbol, p: int, m: int, b: int, c: int, d: int) -> sympy.Expr:
    """Return p*symbol + m*((symbol + b)//c) + d; with a remainder where that is one, since torch knows the bounds of a remainder."""
    if m and m == -p * c:
        return p * functions.Mod(symbol + b, sympy.Integer(c)) + (d - p * b)
    quotient = m * functions.FloorDiv(symbol + b, sympy.Integer(c)) if m else sympy.S.Zero
    return p * symbol + quotient + d


def _find_period(steps: Values, length: int) -> int | None:
    """Return the distance of the places at which a quotient grows, or None if they are not evenly spaced."""
    if len(steps) < 2:
        return length  # one step: any distance beyond the ends
    gaps = np.diff(steps)
    c = int(gaps[0])
    ends = max(int(steps[0]), length - 2 - int(steps[-1]))
    return c if c > 1 and (gaps == c).all() and ends < c else None


def _count_functions(expr: Any, limit: int) -> int:
    """Return the number of functions in an expression, at most `limit`."""
    count = 1 if isinstance(expr, sympy.Function | functions.Max | functions.Min) else 0
    for argument in expr.args:
        if count >= limit:
            break
        if argument.args:
            count += _count_functions(argument, limit - count)
    return count


def _evaluate(expr: Any, symbol: sympy.Symbol, sizes: Values, known: dict[Any, Values]) -> Values:
    """Return the numbers of an expression for all sizes at once; _Unknown for a function that is not listed here."""
    if expr == symbol:
        return sizes
    if expr.is_Integer:
        return np.asarray(int(expr), dtype=np.int64)
    if expr not in known:
        known[expr] = _apply(expr, [_evaluate(argument, symbol, sizes, known) for argument in expr.args])
    return known[expr]


def _apply(expr: Any, operands: list[Values]) -> Values:
    if any(operand.dtype == np.int64 and abs(operand).max() > _EXACT for operand in operands):
        raise _Unknown
    match type(expr):
        case sympy.Add:
            return reduce(np.add, operands)
        case sympy.Mul if len(operands) == 2:
            return operands[0] * operands[1]
        case functions.Max:
            return reduce(np.maximum, operands)
        case functions.Min:
            return reduce(np.minimum, operands)
    divides = (functions.FloorDiv, functions.CleanDiv, functions.Mod, functions.PythonMod, functions.IntTrueDiv)
    if type(expr) in divides and (operands[1] == 0).any():
        raise _Unknown
    match type(expr):
        case functions.FloorDiv | functions.CleanDiv:
            return operands[0] // operands[1]
        case functions.Mod | functions.PythonMod:
            return operands[0] % operands[1]
        case functions.IntTrueDiv:
            return operands[0] / operands[1]
        case functions.CeilToInt | functions.FloorToInt | functions.TruncToInt:
            rounding = {functions.CeilToInt: np.ceil, functions.FloorToInt: np.floor, functions.TruncToInt: np.trunc}[type(expr)]
            return rounding(operands[0]).astype(np.int64)
    raise _Unknown
