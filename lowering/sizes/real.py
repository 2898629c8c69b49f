"""Floats that are computed from sizes: float64, operation by operation as Python computes them, never reordered."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from lowering.sizes import arithmetic
from lowering.sizes import expression as ex
from lowering.sizes.evaluation import OPERATIONS
from lowering.sizes.expression import Atom, Expression, Keyed, Value

EXACT = 1 << 53  # every int of at most this magnitude is a float64
_FINEST = 1 << 20  # denominators of the fractions that are followed exactly


@dataclass(frozen=True, eq=False)
class Real(Keyed, Value):
    """op: `number`, `float` of an Expression, or a function of operands.

    The functions are those of StableHLO that compute float64 as Python does: add, sub, mul, truediv, mod, floordiv, neg, abs, max, min,
    pow, floor, ceil, trunc, round, sqrt, exp, log, log2, cos, sin, tan, tanh; select, whose first operand is a condition.
    """

    op: str
    operands: tuple[Value, ...] = ()
    number: float = 0.0

    @cached_property
    def _key(self) -> str:
        return repr(self.number) if self.op == "number" else f"{self.op}.f64({', '.join(map(str, self.operands))})"

    def __str__(self) -> str:
        return self._key

    @property
    def constant(self) -> float | None:
        return self.number if self.op == "number" else None

    def parts(self) -> Iterator[Value]:
        return iter(self.operands)

    @cached_property
    def interval(self) -> tuple[float, float]:
        """Return bounds of the value, infinite if nothing is known. Rounding is monotonic, so they hold for the rounded value too."""
        if self.op == "number":
            return self.number, self.number
        rule = _INTERVALS.get(self.op)
        if rule is None:
            return -math.inf, math.inf
        try:
            low, high = rule(*(_find_interval(operand) for operand in self.operands))
        except (ArithmeticError, ValueError):
            return -math.inf, math.inf
        return (-math.inf if math.isnan(low) else low), (math.inf if math.isnan(high) else high)


_WHOLE = frozenset({"floor", "ceil", "trunc", "round"})


def number(value: float) -> Real:
    return Real("number", (), float(value))


def real(value: Value) -> Real:
    """Return `value` as a float."""
    if isinstance(value, Real):
        return value
    assert isinstance(value, Expression)
    return number(value.constant) if value.constant is not None and abs(value.constant) <= EXACT else Real("float", (value,))


def apply(op: str, *operands: Value) -> Real:
    """Return a function of floats, or a number if all operands are numbers and Python can compute it."""
    floats = tuple(map(real, operands))
    given = [value.number for value in floats if value.op == "number"]
    if len(given) == len(floats):
        try:
            return number(OPERATIONS[op](*given))
        except (ArithmeticError, ValueError):
            return Real(op, floats)
    if op in ("truediv", "mul") and floats[1].op == "number" and floats[1].number == 1.0:
        return floats[0]
    return Real(op, floats)


def select(condition: Expression, then: Value, otherwise: Value) -> Real:
    if condition.constant is not None:
        return real(then if condition.constant else otherwise)
    return Real("select", (condition, real(then), real(otherwise)))


def round_number(op: str, value: Real) -> Expression:
    """Return floor, ceil, trunc or round of `value` as an int, by a division of ints if the float arithmetic before it is exact."""
    if value.op == "number" and math.isfinite(value.number):
        return ex.number(int(OPERATIONS[op](value.number)))
    if value.op in _WHOLE:
        return round_number(value.op, real(value.operands[0]))
    if op != "round" and (fraction := quotient(value)) is not None:
        dividend, divisor = fraction
        if op == "floor" or (op == "trunc" and dividend.is_at_least(0)):
            return arithmetic.floordiv(dividend, divisor)
        if op == "ceil" or (op == "trunc" and (-dividend).is_at_least(0)):
            return arithmetic.ceildiv(dividend, divisor)
        is_negative = arithmetic.compare("lt", dividend, ex.ZERO)
        return arithmetic.select(is_negative, arithmetic.ceildiv(dividend, divisor), arithmetic.floordiv(dividend, divisor))
    whole = Real(op, (value,))
    low, high = whole.interval
    return ex.of_atom(Atom("int", "", (whole,), int(low) if abs(low) < EXACT else None, int(high) if abs(high) < EXACT else None))


def fraction(value: Value) -> tuple[Expression, int] | None:
    """Return (dividend, power of 2) if `value` is exactly their quotient at every step of its computation, or None if a step may round.
    """
    if isinstance(value, Expression):
        return (value, 1) if _is_exact(value) else None
    assert isinstance(value, Real)
    if value.op == "number":
        dividend, divisor = value.number.as_integer_ratio() if math.isfinite(value.number) else (EXACT, EXACT)
        return (ex.number(dividend), divisor) if divisor <= _FINEST and abs(dividend) <= EXACT else None
    parts = [fraction(operand) for operand in value.operands] if value.op in ("float", "add", "sub", "mul", "truediv", "neg") else [None]
    if None in parts:
        return None
    (left, below), *others = parts  # type: ignore[misc]
    if value.op in ("float", "neg"):
        return (left, below) if value.op == "float" else (-left, below)
    (right, other), = others  # type: ignore[misc]
    if value.op == "truediv":
        # only by a power of 2: `quotient` has the others
        if right.constant is None or right.constant <= 0 or right.constant & (right.constant - 1):
            return None
        return _reduce(left * ex.number(other), below * right.constant)
    if value.op == "mul":
        return _reduce(left * right, below * other)
    common = max(below, other)
    left, right = left * ex.number(common // below), right * ex.number(common // other)
    return _reduce(left + right if value.op == "add" else left - right, common)


def quotient(value: Real) -> tuple[Expression, Expression] | None:
    """Return (dividend, divisor > 0) if their quotient, rounded once, is `value`. Its floor, ceil and trunc are the exact quotient's.

    Ints below 2**53 are floats, and the quotient of two of them is farther from every int that it does not equal than rounding takes it.
    """
    exact = fraction(value)
    if exact is not None:
        return exact[0], ex.number(exact[1])
    if value.op == "neg":
        parts = quotient(value.operands[0])  # type: ignore[arg-type]
        return None if parts is None else (-parts[0], parts[1])
    if value.op != "truediv":
        return None
    left, right = (fraction(operand) for operand in value.operands)
    if left is None or right is None or not right[0].is_at_least(1):
        return None
    dividend, divisor = left[0] * ex.number(right[1]), right[0] * ex.number(left[1])
    return (dividend, divisor) if _is_exact(dividend) and _is_exact(divisor) else None


def _reduce(dividend: Expression, divisor: int) -> tuple[Expression, int] | None:
    common = math.gcd(arithmetic.content(dividend), divisor)
    dividend = Expression(tuple((monomial, factor // common) for monomial, factor in dividend.terms))
    return (dividend, divisor // common) if _is_exact(dividend) and divisor // common <= _FINEST else None


def _is_exact(value: Expression) -> bool:
    """Return whether a float holds the value. A size without a bound is assumed to fit: no tensor has 2**53 elements."""
    return all(bound is None or abs(bound) <= EXACT for bound in value.bounds())


def _find_interval(value: Value) -> tuple[float, float]:
    if isinstance(value, Real):
        return value.interval
    assert isinstance(value, Expression)
    low, high = value.bounds()
    return (-math.inf if low is None else float(low)), (math.inf if high is None else float(high))


Interval = tuple[float, float]


def _at_corners(compute: Callable[[float, float], float]) -> Callable[[Interval, Interval], Interval]:
    def rule(left: Interval, right: Interval) -> Interval:
        found = [compute(a, b) for a in left for b in right]
        return (-math.inf, math.inf) if any(map(math.isnan, found)) else (min(found), max(found))

    return rule


def _at_ends(compute: Callable[[float], float]) -> Callable[[Interval], Interval]:
    def rule(given: Interval) -> Interval:
        return tuple(end if math.isinf(end) else float(compute(end)) for end in given)  # type: ignore[return-value]

    return rule


def _divide(left: Interval, right: Interval) -> Interval:
    return _at_corners(lambda a, b: a / b)(left, right) if right[0] > 0 else (-math.inf, math.inf)


_INTERVALS: dict[str, Callable[..., Interval]] = {
    "float": lambda given: given, "add": _at_corners(lambda a, b: a + b), "sub": _at_corners(lambda a, b: a - b),
    "mul": _at_corners(lambda a, b: a * b),
    "truediv": _divide, "neg": lambda given: (-given[1], -given[0]), "max": _at_corners(max), "min": _at_corners(min),
    "abs": lambda given: (max(0.0, given[0], -given[1]), max(abs(given[0]), abs(given[1]))),
    "floor": _at_ends(math.floor), "ceil": _at_ends(math.ceil), "trunc": _at_ends(math.trunc), "round": _at_ends(round),
    "pow": lambda base, exponent: (0.0, math.inf if math.inf in (base[1], exponent[1]) else max(base[1], 1.0) ** exponent[1] * 1.0000001)
    if base[0] >= 0 and exponent[0] >= 0 else (-math.inf, math.inf),
    "sqrt": lambda given: (math.sqrt(max(given[0], 0.0)), math.sqrt(given[1])),
    "select": lambda condition, then, otherwise: (min(then[0], otherwise[0]), max(then[1], otherwise[1])),
}  # fmt: skip
