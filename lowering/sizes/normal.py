"""The normal form of a text: an Expression or a Real over the symbols it is written in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping

from lowering.sizes import arithmetic, operations, real
from lowering.sizes import expression as ex
from lowering.sizes.expression import Expression, Value
from lowering.sizes.parsing import Term, Unknown, parse
from lowering.sizes.ranges import Bound
from lowering.sizes.spelling import spell

Symbols = MutableMapping[str, Expression]
Exact = Callable[[Term, Term], bool]
_ARITHMETIC = frozenset(("number", "symbol", "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "neg"))


class NoForm(Unknown):
    """An expression has a value, but no form that can be computed in the IR."""


def symbols(bounds: Mapping[str, Bound]) -> dict[str, Expression]:
    """Return each symbol as an expression: one that is a multiple of k is k times an atom, so that it divides by k exactly."""
    found = {}
    for name, bound in bounds.items():
        low, high = bound.counts
        step = bound.multiple_of
        found[name] = ex.symbol(name if step == 1 else f"{name}/{step}", low, high) * ex.number(step)
    return found


def number(text: int | str, symbols: Symbols, is_exact: Exact | None = None) -> Value:
    """Read `text` as an expression. A symbol that `symbols` lacks is added, with a value of 0 or more.

    Unreadable and NoForm say what cannot be read.

    is_exact: whether a division leaves no rest, where the symbols alone do not show it.
    """
    return ex.number(text) if isinstance(text, int) else _Normal(symbols, is_exact).value(parse(text))


def size(text: int | str, symbols: Symbols) -> Expression:
    """Return what `text` computes, which must be an int.

    torch prints a division that leaves no rest as `/`. Where no function rounds, each division is exact, or the result is no int.
    """
    if isinstance(text, int):
        return ex.number(text)
    term = parse(text)
    value = _Normal(symbols, None).value(term)
    if not isinstance(value, Expression) and _is_arithmetic(term):
        value = _Normal(symbols, lambda dividend, divisor: True).value(term)
    if isinstance(value, Expression):
        return value
    raise NoForm(f"'{text}' is a float, and no size")


def _is_arithmetic(term: Term) -> bool:
    return term.op in _ARITHMETIC and all(map(_is_arithmetic, term.operands))


def condition(text: str, symbols: Symbols, is_exact: Exact | None = None) -> Expression:
    """Return a condition as 1 where it holds, else 0."""
    return operations.truth(number(text, symbols, is_exact))


def is_always_true(text: str, symbols: Symbols) -> bool:
    """Return whether the normal form of a condition is true at all sizes of `symbols`; a condition without a form is not."""
    try:
        return condition(text, symbols).constant == 1
    except Unknown:
        return False


def bounds(text: str, ranges: Mapping[str, Bound]) -> tuple[float | None, float | None]:
    """Return the lowest and highest value over the ranges of the symbols (None: unbounded); never too tight."""
    value = number(text, symbols(ranges))
    if isinstance(value, Expression):
        return value.bounds()
    assert isinstance(value, real.Real)
    low, high = value.interval
    return (None if low == -float("inf") else low), (None if high == float("inf") else high)


def divides(symbols: Mapping[str, Expression]) -> Exact:
    """Return whether the first of two terms is a multiple of the second for all sizes, as far as `symbols` shows it."""

    def is_exact(dividend: Term, divisor: Term) -> bool:
        normal = _Normal(dict(symbols), None)
        left, right = normal.value(dividend), normal.value(divisor)
        return isinstance(left, Expression) and isinstance(right, Expression) and arithmetic.divide_exactly(left, right) is not None

    return is_exact


class _Normal:
    def __init__(self, symbols: Symbols, is_exact: Exact | None) -> None:
        self.symbols = symbols
        self.is_exact = is_exact

    def value(self, term: Term) -> Value:
        if term.op == "symbol":
            return self.symbols.setdefault(str(term.value), ex.symbol(str(term.value)))
        if term.op == "number":
            return real.number(term.value) if isinstance(term.value, float) else ex.number(int(term.value or 0))
        if term.op not in operations.OPERATIONS:
            raise NoForm(f"'{spell(term)}' has no form in StableHLO")
        op = "floordiv" if term.op == "truediv" and self.is_exact is not None and self.is_exact(*term.operands) else term.op
        try:
            return operations.OPERATIONS[op](*map(self.value, term.operands))
        except ArithmeticError as error:  # of constants: nothing divides by 0
            raise NoForm(f"'{spell(term)}' has no value: {error}") from None
