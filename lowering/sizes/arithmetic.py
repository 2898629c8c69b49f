"""Quotients, extremes, comparisons and choices of sizes. A result is an atom only where no polynomial has its value.

Divisors are positive here. `operations` has Python's operators for operands of any sign and for floats.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from math import gcd

from lowering.sizes.expression import ONE, ZERO, Atom, Expression, Monomial, number, of_atom


def floordiv(left: Expression, right: Expression) -> Expression:
    """Return left // right for a positive right or a constant one; exact polynomial division where there is one."""
    exact = divide_exactly(left, right)
    if exact is not None:
        return exact
    divisor = right.constant
    if divisor is not None and divisor < 0:  # rounds down, too: as n // -2 does, of which -(n // -2) is the quotient rounded up
        return floordiv(-left, -right)
    if divisor is not None and divisor > 0:
        # (k*divisor*m + rest) // divisor = k*m + rest // divisor
        whole = Expression.from_terms({monomial: factor // divisor for monomial, factor in left.terms if factor % divisor == 0})
        rest = left - whole * right
        if rest.constant is not None:
            return whole + number(rest.constant // divisor)
        if whole.terms:
            return whole + floordiv(rest, right)
    low, high = left.bounds()
    if divisor is None:  # a quotient by an unknown positive size lies between 0 and the dividend
        return of_atom(Atom("floordiv", "", (left, right), 0 if left.is_at_least(0) else None, high if left.is_at_least(0) else None))
    return of_atom(Atom("floordiv", "", (left, right), None if low is None else low // divisor, None if high is None else high // divisor))


def ceildiv(left: Expression, right: Expression) -> Expression:
    """Return left / right rounded up, for a positive right."""
    return -floordiv(-left, right) if right.constant is None else floordiv(left + right - ONE, right)


def remainder(left: Expression, right: Expression) -> Expression:
    """Return left % right for a positive right."""
    return left - floordiv(left, right) * right


def divide_exactly(left: Expression, right: Expression) -> Expression | None:
    """Return left / right as a polynomial with integer coefficients, or None.

    Finds it for divisors of a single term, and where left is a single-term multiple of right.
    """
    if left == right and right.terms:
        return ONE
    if not left.terms:
        return ZERO
    if len(right.terms) != 1:
        return _divide_by_sum(left, right)
    monomial, divisor = right.terms[0]
    quotient: dict[Monomial, int] = {}
    for term, factor in left.terms:
        remaining = _divide_monomial(term, monomial)
        if remaining is None or factor % divisor:
            return None
        quotient[remaining] = factor // divisor
    return Expression.from_terms(quotient)


def _divide_by_sum(left: Expression, right: Expression) -> Expression | None:
    """Return left / right for a divisor of several terms, where left is a single-term multiple of it."""
    if not right.terms or len(left.terms) != len(right.terms):
        return None
    for term, factor in left.terms:
        head, divisor = right.terms[-1]
        remaining = _divide_monomial(term, head)
        if remaining is not None and factor % divisor == 0:
            candidate = Expression.from_terms({remaining: factor // divisor})
            if candidate * right == left:
                return candidate
    return None


def maximum(left: Expression, right: Expression) -> Expression:
    """Return the larger size: one of the operands where their bounds decide it."""
    return _choose_extreme("max", left, right, "ge")


def minimum(left: Expression, right: Expression) -> Expression:
    """Return the smaller size: one of the operands where their bounds decide it."""
    return _choose_extreme("min", left, right, "le")


def _choose_extreme(op: str, left: Expression, right: Expression, is_chosen: str) -> Expression:
    for one, other in ((left, right), (right, left)):
        if compare(is_chosen, one, other).constant == 1:
            return one
    pick: Callable[..., int] = max if op == "max" else min
    lows, highs = zip(left.bounds(), right.bounds(), strict=True)
    low = pick(lows) if None not in lows else next((bound for bound in lows if bound is not None), None) if op == "max" else None
    high = pick(highs) if None not in highs else next((bound for bound in highs if bound is not None), None) if op == "min" else None
    return of_atom(Atom(op, "", (left, right), low, high))


_DECIDE: dict[str, Callable[[int | None, int | None], bool | None]] = {
    # of the bounds of left - right
    "eq": lambda low, high: True if low == high == 0 else False if (low or 0) > 0 or (high is not None and high < 0) else None,
    "lt": lambda low, high: True if high is not None and high < 0 else False if low is not None and low >= 0 else None,
    "le": lambda low, high: True if high is not None and high <= 0 else False if low is not None and low > 0 else None,
}


def compare(op: str, left: Expression, right: Expression) -> Expression:
    """Return whether left op right: 0 or 1 where the bounds decide it, else an atom. op: eq, ne, lt, le, gt, ge."""
    if op in ("gt", "ge"):
        return compare({"gt": "lt", "ge": "le"}[op], right, left)
    if op == "ne":
        return ONE - compare("eq", left, right)
    decided = _DECIDE[op](*(left - right).bounds())
    return number(decided) if decided is not None else of_atom(Atom(op, "", (left, right), 0, 1))


def select(condition: Expression, then: Expression, otherwise: Expression) -> Expression:
    """Return `then` where the condition, 0 or 1, holds, and `otherwise` where it does not."""
    if condition.constant is not None:
        return then if condition.constant else otherwise
    if then == otherwise:
        return then
    lows, highs = ([bound for bound in pair if bound is not None] for pair in zip(then.bounds(), otherwise.bounds(), strict=True))
    low, high = min(lows) if len(lows) == 2 else None, max(highs) if len(highs) == 2 else None
    return of_atom(Atom("select", "", (condition, then, otherwise), low, high))


def content(expression: Expression) -> int:
    """Return the greatest common divisor of the coefficients."""
    return reduce(gcd, (abs(factor) for _, factor in expression.terms), 0)


def _divide_monomial(monomial: Monomial, part: Monomial) -> Monomial | None:
    """Return the monomial divided by `part`, or None if it lacks one of its factors."""
    remaining = list(monomial)
    for atom in part:
        if atom not in remaining:
            return None
        remaining.remove(atom)
    return tuple(remaining)
