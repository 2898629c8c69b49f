"""Sizes as integer polynomials over atoms, in a normal form: equal sizes compare equal, and each is computed once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, reduce
from math import prod
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


_COMMUTATIVE = frozenset(("max", "min", "eq"))


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
        words = map(str, self.operands)
        return (self.op, self.name, ", ".join(sorted(words) if self.op in _COMMUTATIVE else words))

    def __lt__(self, other: Atom) -> bool:
        return self._key < other._key

    def __str__(self) -> str:
        return self.name if self.op == "symbol" else f"{self.op}({', '.join(map(str, self.operands))})"


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
            least, most = _bound_monomial(monomial)
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
    """Return a constant."""
    return Expression((((), int(value)),)) if value else Expression(())


ZERO, ONE = number(0), number(1)


def of_atom(atom: Atom) -> Expression:
    """Return the size that one atom stands for."""
    return Expression((((atom,), 1),))


def symbol(name: str, low: int = 0, high: int | None = None) -> Expression:
    """Return a symbol between its bounds."""
    return of_atom(Atom("symbol", name, (), low, high))


def product(factors: tuple[Expression, ...] | list[Expression]) -> Expression:
    return reduce(Expression.__mul__, factors, ONE)


def _bound_monomial(monomial: Monomial) -> tuple[int | None, int | None]:
    if any(atom.low is None or atom.low < 0 for atom in monomial):
        return (monomial[0].low, monomial[0].high) if len(monomial) == 1 else (None, None)
    highs = [atom.high for atom in monomial]
    return prod(atom.low or 0 for atom in monomial), None if None in highs else prod(high for high in highs if high is not None)
