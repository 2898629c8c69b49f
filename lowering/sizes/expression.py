"""Sizes as integer polynomials over atoms, in a normal form: equal sizes compare equal, and each is computed once.

Divisors are positive here; `operations` has Python's operators for operands of any sign and for floats.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, reduce
from math import gcd, prod
from typing import Any

Monomial = tuple["Atom", ...]  # sorted, with repetition; () is the constant term


class Value:
    """A value computed from sizes: an Expression, which is an int, or a `real.Real`, which is a float."""

    def atoms(self) -> Iterator[Atom]:
        """Return every atom once, including those inside the operands of atoms."""
        seen: set[Atom] = set()
        waiting = list(self.parts())
        while waiting:
            part = waiting.pop()
            if isinstance(part, Value):
                waiting += part.parts()
            elif part not in seen:
                seen.add(part)
                waiting += part.operands
                yield part

    def parts(self) -> Iterator[Atom | Value]:
        """Return the atoms and values that this one is directly computed from."""
        raise NotImplementedError

    @property
    def constant(self) -> int | float | None:
        """The value, if it does not depend on any atom."""
        raise NotImplementedError


class Keyed:
    """Base of immutable values of which equal `_key`s make equal ones. The hash is computed once."""

    _key: Any

    @cached_property
    def _hash(self) -> int:
        return hash(self._key)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, type(self)) and self._key == other._key


@dataclass(frozen=True, eq=False)
class Atom(Keyed):
    """A size that is not a polynomial of others: a symbol (op "symbol", `name`), or an op applied to values.

    op: floordiv, max, min, eq, lt, le, select, pow, and, or, xor (of the bits); `int` of a Real that is whole. Only eq, lt, le and int
    take Reals.

    low, high: bounds of its value (high None: unbounded).
    """

    op: str
    name: str = ""
    operands: tuple[Value, ...] = ()
    low: int | None = 0
    high: int | None = None

    @cached_property
    def _key(self) -> tuple[str, str, str]:
        return (self.op, self.name, ", ".join(map(str, self.operands)))

    def __lt__(self, other: Atom) -> bool:
        return self._key < other._key

    def __str__(self) -> str:
        return self.name if self.op == "symbol" else f"{self.op}({self._key[2]})"


@dataclass(frozen=True)
class Expression(Value):
    """Sum of coefficient * monomial; immutable; `terms` is sorted and has no zero coefficients."""

    terms: tuple[tuple[Monomial, int], ...]

    @staticmethod
    def from_terms(terms: Mapping[Monomial, int]) -> Expression:
        return Expression(tuple(sorted((monomial, factor) for monomial, factor in terms.items() if factor)))

    @cached_property
    def _hash(self) -> int:
        return hash(self.terms)

    def __hash__(self) -> int:
        return self._hash

    @property
    def constant(self) -> int | None:
        if not self.terms:
            return 0
        return self.terms[0][1] if len(self.terms) == 1 and self.terms[0][0] == () else None

    def parts(self) -> Iterator[Atom]:
        return (atom for monomial, _ in self.terms for atom in monomial)

    def __add__(self, other: Expression) -> Expression:
        total = dict(self.terms)
        for monomial, factor in other.terms:
            total[monomial] = total.get(monomial, 0) + factor
        return Expression.from_terms(total)

    def __neg__(self) -> Expression:
        return Expression(tuple((monomial, -factor) for monomial, factor in self.terms))

    def __sub__(self, other: Expression) -> Expression:
        return self + -other

    def __mul__(self, other: Expression) -> Expression:
        total: dict[Monomial, int] = {}
        for left, a in self.terms:
            for right, b in other.terms:
                monomial = tuple(sorted(left + right))
                total[monomial] = total.get(monomial, 0) + a * b
        return Expression.from_terms(total)

    def bounds(self) -> tuple[int | None, int | None]:
        """Return the lowest and highest value over the atoms' bounds (None: unbounded), term by term: never too tight."""
        low: int | None = 0
        high: int | None = 0
        for monomial, factor in self.terms:
            least, most = _monomial_bounds(monomial)
            if factor < 0:
                least, most = most, least
            low = None if low is None or least is None else low + factor * least
            high = None if high is None or most is None else high + factor * most
        return low, high

    def is_at_least(self, least: int) -> bool:
        """Return whether the bounds prove it."""
        low = self.bounds()[0]
        return low is not None and low >= least

    def __str__(self) -> str:
        if not self.terms:
            return "0"
        parts = []
        for monomial, factor in self.terms:
            body = "*".join(map(str, monomial))
            parts.append(str(factor) if not body else body if factor == 1 else f"{factor}*{body}")
        return " + ".join(parts)


Shape = tuple[Expression, ...]


def number(value: int) -> Expression:
    return Expression((((), int(value)),)) if value else Expression(())


ZERO, ONE = number(0), number(1)


def of_atom(atom: Atom) -> Expression:
    return Expression((((atom,), 1),))


def symbol(name: str, low: int = 0, high: int | None = None) -> Expression:
    return of_atom(Atom("symbol", name, (), low, high))


def product(factors: tuple[Expression, ...] | list[Expression]) -> Expression:
    return reduce(Expression.__mul__, factors, ONE)


def floordiv(left: Expression, right: Expression) -> Expression:
    """left // right for a positive right or a constant one; exact polynomial division where there is one."""
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
    return -floordiv(-left, right) if right.constant is None else floordiv(left + right - ONE, right)


def remainder(left: Expression, right: Expression) -> Expression:
    """left % right for a positive right."""
    return left - floordiv(left, right) * right


def divide_exactly(left: Expression, right: Expression) -> Expression | None:
    """left / right as a polynomial with integer coefficients, or None where there is none (single-term divisors, or left a multiple)."""
    if left == right and right.terms:
        return ONE
    if not left.terms:
        return ZERO
    if len(right.terms) != 1:
        return _divide_by_sum(left, right)
    monomial, divisor = right.terms[0]
    quotient: dict[Monomial, int] = {}
    for term, factor in left.terms:
        remaining = _without(term, monomial)
        if remaining is None or factor % divisor:
            return None
        quotient[remaining] = factor // divisor
    return Expression.from_terms(quotient)


def _divide_by_sum(left: Expression, right: Expression) -> Expression | None:
    """left / right for a divisor of several terms, where left is a single-term multiple of it."""
    if not right.terms or len(left.terms) != len(right.terms):
        return None
    for term, factor in left.terms:
        head, divisor = right.terms[-1]
        remaining = _without(term, head)
        if remaining is not None and factor % divisor == 0:
            candidate = Expression.from_terms({remaining: factor // divisor})
            if candidate * right == left:
                return candidate
    return None


def maximum(left: Expression, right: Expression) -> Expression:
    return _extreme("max", left, right, compare("ge", left, right))


def minimum(left: Expression, right: Expression) -> Expression:
    return _extreme("min", left, right, compare("le", left, right))


def _extreme(op: str, left: Expression, right: Expression, first: Expression) -> Expression:
    if first.constant is not None:
        return left if first.constant else right
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
    """0 or 1 where the bounds decide it, else an atom. op: eq, ne, lt, le, gt, ge."""
    if op in ("gt", "ge"):
        return compare({"gt": "lt", "ge": "le"}[op], right, left)
    if op == "ne":
        return ONE - compare("eq", left, right)
    decided = _DECIDE[op](*(left - right).bounds())
    return number(decided) if decided is not None else of_atom(Atom(op, "", (left, right), 0, 1))


def select(condition: Expression, then: Expression, otherwise: Expression) -> Expression:
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


def _monomial_bounds(monomial: Monomial) -> tuple[int | None, int | None]:
    if any(atom.low is None or atom.low < 0 for atom in monomial):
        return (monomial[0].low, monomial[0].high) if len(monomial) == 1 else (None, None)
    highs = [atom.high for atom in monomial]
    return prod(atom.low or 0 for atom in monomial), None if None in highs else prod(high for high in highs if high is not None)


def _without(monomial: Monomial, part: Monomial) -> Monomial | None:
    remaining = list(monomial)
    for atom in part:
        if atom not in remaining:
            return None
        remaining.remove(atom)
    return tuple(remaining)
