"""Python's operators on values computed from sizes: ints stay ints, a float makes a float, divisors may have any sign."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce

from lowering.sizes import arithmetic, evaluation, real
from lowering.sizes import expression as ex
from lowering.sizes.expression import Atom, Expression, Value
from lowering.sizes.real import Real

_LARGEST_PRODUCT = 16  # a larger constant power is one op
_I64 = 63


def _arithmetic(op: str, of_ints: Callable[[Expression, Expression], Expression]) -> Callable[[Value, Value], Value]:
    def compute(left: Value, right: Value) -> Value:
        if isinstance(left, Expression) and isinstance(right, Expression):
            return of_ints(left, right)
        return real.apply(op, left, right)

    return compute


def floor_quotient(left: Expression, right: Expression) -> Expression:
    """Return left // right for a divisor of any sign, rounded as in Python."""
    low, high = right.bounds()
    if low is not None and low >= 0:
        return arithmetic.floordiv(left, right)
    if high is not None and high <= 0:
        return arithmetic.floordiv(-left, -right)
    return arithmetic.select(arithmetic.compare("lt", right, ex.ZERO), arithmetic.floordiv(-left, -right), arithmetic.floordiv(left, right))


def _power(base: Expression, exponent: Expression) -> Value:
    """Return an int for exponents of 0 or more, as torch's PowByNatural does, and a float for a negative constant."""
    if exponent.constant is not None and exponent.constant < 0:
        return real.apply("pow", base, exponent)
    if exponent.constant is not None and (exponent.constant <= _LARGEST_PRODUCT or base.constant is not None):
        if base.constant is not None:
            return ex.number(evaluation.OPERATIONS["pow"](base.constant, exponent.constant))
        return ex.product((base,) * exponent.constant)
    least, most = base.bounds()
    low = 1 if least is not None and least >= 1 else 0 if least is not None and least >= 0 else None
    times = exponent.bounds()[1]
    high = most**times if low is not None and most is not None and times is not None and times <= _I64 else None
    return ex.of_atom(Atom("pow", "", (base, exponent), low, high))


def floordiv(left: Value, right: Value) -> Value:
    return _arithmetic("floordiv", floor_quotient)(left, right)


def remainder(left: Value, right: Value) -> Value:
    """Return left % right, with the sign of `right`."""
    return _arithmetic("mod", lambda a, b: a - floor_quotient(a, b) * b)(left, right)


def power(left: Value, right: Value) -> Value:
    if isinstance(left, Expression) and isinstance(right, Expression):
        return _power(left, right)
    return real.apply("pow", left, right)


add = _arithmetic("add", Expression.__add__)
subtract = _arithmetic("sub", Expression.__sub__)
multiply = _arithmetic("mul", Expression.__mul__)
maximum = _arithmetic("max", arithmetic.maximum)
minimum = _arithmetic("min", arithmetic.minimum)


def ceildiv(left: Value, right: Value) -> Value:
    return negate(floordiv(negate(left), right))


def negate(value: Value) -> Value:
    return -value if isinstance(value, Expression) else real.apply("neg", value)


def absolute(value: Value) -> Value:
    return arithmetic.maximum(value, -value) if isinstance(value, Expression) else real.apply("abs", value)


def divide(left: Value, right: Value) -> Value:
    """Return left / right as a float, or as an int if it is one for all sizes: both compare and compute alike."""
    if isinstance(left, Expression) and isinstance(right, Expression):
        exact = arithmetic.divide_exactly(left, right)
        if exact is not None:
            return exact
    return real.apply("truediv", left, right)


def make_rounding(op: str) -> Callable[[Value], Value]:
    """Return floor, ceil, trunc or round of a number, as a function that gives an int."""

    def compute(value: Value) -> Value:
        if isinstance(value, Expression):
            return value
        assert isinstance(value, Real)
        return _whole_power(value) or real.round_number(op, value)

    return compute


def _whole_power(value: Real) -> Expression | None:
    """Return a power of ints that was computed as a float, if that is exact."""
    if value.op != "pow" or value.interval[1] > real.EXACT:
        return None
    parts = [real.fraction(operand) for operand in value.operands]
    if any(part is None or part[1] != 1 for part in parts) or not parts[1][0].is_at_least(0):  # type: ignore[index]
        return None
    found = _power(parts[0][0], parts[1][0])  # type: ignore[index]
    return found if isinstance(found, Expression) else None


def function(op: str) -> Callable[[Value], Value]:
    """Return a function of one float."""
    return lambda value: real.apply(op, value)


def compare(op: str) -> Callable[[Value, Value], Expression]:
    """Return eq, ne, lt, le, gt or ge as a function that gives 0 or 1. It compares ints if both sides are fractions without rounding."""

    def compute(left: Value, right: Value) -> Expression:
        if isinstance(left, Real) or isinstance(right, Real):
            first, second = real.fraction(left), real.fraction(right)
            if first is None or second is None:
                return _compare_floats(op, real.real(left), real.real(right))
            left, right = first[0] * ex.number(second[1]), second[0] * ex.number(first[1])
        return arithmetic.compare(op, left, right)  # type: ignore[arg-type]

    return compute


def _compare_floats(op: str, left: Real, right: Real) -> Expression:
    if op in ("gt", "ge"):
        return _compare_floats({"gt": "lt", "ge": "le"}[op], right, left)
    if op == "ne":
        return ex.ONE - _compare_floats("eq", left, right)
    (least, most), (low, high) = left.interval, right.interval
    if most < low or (op == "le" and most <= low):
        return ex.ZERO if op == "eq" else ex.ONE
    if least > high or (op == "lt" and least >= high):
        return ex.ZERO
    return ex.of_atom(Atom(op, "", (left, right), 0, 1))


def truth(value: Value) -> Expression:
    """Return 1 where `value` is not 0, else 0."""
    if isinstance(value, Expression) and value.bounds()[0] in (0, 1) and value.bounds()[1] in (0, 1):
        return value
    return compare("ne")(value, ex.ZERO)


def conjunction(*parts: Value) -> Expression:
    return ex.product([truth(part) for part in parts])


def disjunction(*parts: Value) -> Expression:
    return ex.ONE - ex.product([ex.ONE - truth(part) for part in parts])


def negation(value: Value) -> Expression:
    return ex.ONE - truth(value)


def select(condition: Value, then: Value, otherwise: Value) -> Value:
    if isinstance(then, Expression) and isinstance(otherwise, Expression):
        return arithmetic.select(truth(condition), then, otherwise)
    return real.select(truth(condition), then, otherwise)


def shift_left(left: Value, right: Value) -> Value:
    return multiply(left, power(ex.number(2), right))


def shift_right(left: Value, right: Value) -> Value:
    return floordiv(left, power(ex.number(2), right))


def bits(op: str) -> Callable[[Value, Value], Value]:
    """Return and, or, xor of the bits of two ints."""

    def compute(left: Value, right: Value) -> Value:
        first, second = left.constant, right.constant
        if isinstance(first, int) and isinstance(second, int):
            return ex.number({"and": first & second, "or": first | second, "xor": first ^ second}[op])
        bounds = [value.bounds() for value in (left, right)]  # type: ignore[attr-defined]
        low = 0 if all(low is not None and low >= 0 for low, _ in bounds) else None
        highs = [high for _, high in bounds]
        high = None if low is None or None in highs else (1 << max(number.bit_length() for number in highs)) - 1  # type: ignore[union-attr]
        return ex.of_atom(Atom(op, "", (left, right), low, high))

    return compute


def _each(compute: Callable[[Value, Value], Value]) -> Callable[..., Value]:
    return lambda *values: reduce(compute, values)


# By the ops of `parsing.Term`.
OPERATIONS: dict[str, Callable[..., Value]] = {
    "add": add, "sub": subtract, "mul": multiply, "neg": negate, "abs": absolute, "max": _each(maximum), "min": _each(minimum),
    "pow": power,
    "floordiv": floordiv, "mod": remainder, "truediv": divide, "ceildiv": ceildiv,
    "modular_indexing": lambda base, divisor, modulus: remainder(floordiv(base, divisor), modulus), "float": real.real,
    "lshift": shift_left, "rshift": shift_right, "bitand": bits("and"), "bitor": bits("or"), "bitxor": bits("xor"),
    "and": conjunction, "or": disjunction, "not": negation, "where": select,
    **{op: compare(op) for op in ("eq", "ne", "lt", "le", "gt", "ge")},
    **{op: make_rounding(op) for op in ("floor", "ceil", "trunc", "round")},
    **{op: function(op) for op in ("sqrt", "exp", "log", "log2", "cos", "sin", "tan", "tanh")},
}  # fmt: skip
