"""The widest range of one symbol in which a model lowers and computes what eager does, found by bisection, and what stops it at each
edge.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace

from lowering.model import Symbol
from lowering.sizes.ranges import round_down, round_up

MULTIPLES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 15, 16, 20, 24, 32, 48, 64)  # tried one by one where nothing says which it is
HINTS = 6  # refinements that torch suggests are followed so often


@dataclass(frozen=True)
class Attempt:
    """A range, lowered and verified. hint: the range that the failure itself suggests; place: the user's line that it names.

    verified: the largest size at which the levels were run (None: they were not).
    """

    symbol: Symbol
    outcome: str
    stage: str = ""
    cause: str = ""
    place: str = ""
    hint: Symbol | None = None
    verified: int | None = None

    @property
    def holds(self) -> bool:
        return self.outcome == "ok"

    def __str__(self) -> str:
        ended = f"{self.outcome} in {self.stage}" if not self.holds else "ok"
        return f"{ended}: {self.cause}" + (f" [{self.place}]" if self.place else "") if self.cause else ended


@dataclass(frozen=True)
class Finding:
    """range: the widest that holds (None: not even the smallest does). edges: what fails just beyond it, by `max`, `min`, `multiple_of`."""

    declared: Symbol
    range: Symbol | None
    edges: dict[str, Attempt]
    attempts: tuple[Attempt, ...]
    verified: int | None = None

    @property
    def narrower(self) -> bool:
        """Whether less holds than was declared."""
        return self.range is None or bool(self.edges.keys() - self._list_beyond())

    def _list_beyond(self) -> set[str]:
        """Return the edges that lie at the declared range or outside it."""
        if self.range is None or self.declared.max is None or self.range.max is None:
            return set()
        return {"max"} if self.range.largest(self.range.max) >= self.declared.largest(self.declared.max) else set()


def probe(attempt: Callable[[Symbol], Attempt], declared: Symbol, limit: int) -> Finding:
    """Look for the widest range within `declared`, up to `limit` where that is more than its max, or it has none.

    Assumes that every part of an accepted range is accepted.
    """
    search = _Search(attempt)
    whole = replace(declared, max=limit if declared.max is None else declared.max, example=None)
    found = search.inside(whole)
    if found is None:
        return Finding(declared, None, {"max": search.tried[whole]}, tuple(search.tried.values()))
    found = search.refine(found, declared.multiple_of)
    found = search.grow(found, "min", declared.min)
    found = search.grow(found, "max", max(limit, whole.max or 0))
    held = [one.verified for one in search.tried.values() if one.holds and one.verified is not None]
    return Finding(declared, found, dict(search.edges(found)), tuple(search.tried.values()), max(held, default=None))


@dataclass
class _Search:
    attempt: Callable[[Symbol], Attempt]
    tried: dict[Symbol, Attempt] = field(default_factory=dict)
    hinted: bool = False

    def holds(self, symbol: Symbol) -> bool:
        if symbol not in self.tried:
            self.tried[symbol] = self.attempt(symbol)
        return self.tried[symbol].holds

    def inside(self, whole: Symbol) -> Symbol | None:
        """Find a range within `whole` that is accepted: the one that failures lead to, else the smallest of the first multiple that is."""
        current = whole
        for _ in range(HINTS):
            if self.holds(current):
                return current
            hint = self.tried[current].hint
            narrowed = hint and _narrow(hint, current)
            if narrowed is None or narrowed == current or narrowed.is_fixed or narrowed.problems(""):
                break
            current, self.hinted = narrowed, True
        self.hinted = False
        for factor in MULTIPLES:
            step = whole.multiple_of * factor
            lowest = round_up(max(2, whole.min), step)
            narrow = Symbol(lowest, lowest + step, step)
            if lowest + step <= (whole.max or 0) and self.holds(narrow):
                return narrow
        return None

    def refine(self, found: Symbol, least: int) -> Symbol:
        """Return `found` with the smallest multiple that is still accepted."""
        for prime in _list_primes(found.multiple_of // least):
            candidate = replace(found, multiple_of=found.multiple_of // prime)
            if found.multiple_of % prime == 0 and self.holds(candidate):
                return self.refine(candidate, least)
        return found

    def grow(self, found: Symbol, side: str, end: int) -> Symbol:
        """Return `found` with its `side` (min or max) moved toward `end` as far as it is accepted."""
        step = found.multiple_of if side == "max" else -found.multiple_of
        good = _get_limit(found, side)
        last = round_down(end, abs(step)) if side == "max" else round_up(end, abs(step))
        if (last - good) * step <= 0:
            return found
        if self.holds(_move(found, side, last)):
            return _move(found, side, end if side == "min" else last)
        bad, exact = last, self.hinted
        hint = self.tried[_move(found, side, last)].hint
        if hint is not None and hint.max is not None:
            allowed = good + (_get_limit(hint, side) - good) // step * step
            if (allowed - good) * step > 0 and (bad - allowed) * step > 0 and self.holds(_move(found, side, allowed)):
                good = allowed
            exact = exact or allowed == good
        while abs(bad - good) > abs(step):
            middle = good + step if exact else _pick_between(good, bad, step)
            if self.holds(_move(found, side, middle)):
                good = middle
            else:
                bad = middle
            exact = False  # a failure's own suggestion mostly is: then the next size is the edge
        return _move(found, side, good)

    def edges(self, found: Symbol) -> Iterator[tuple[str, Attempt]]:
        """Return the failures that bound `found`."""
        for side, other, step in (("max", "min", found.multiple_of), ("min", "max", -found.multiple_of)):
            for tried in self.tried.values():
                one = tried.symbol
                inside = one.multiple_of == found.multiple_of and (_get_limit(one, other) - _get_limit(found, other)) * step >= 0
                if not tried.holds and inside and _get_limit(one, side) == _get_limit(found, side) + step:
                    yield side, tried
                    break
        coarser = [one for one in self.tried.values() if found.multiple_of % one.symbol.multiple_of == 0 and not one.holds
                   and one.symbol.multiple_of < found.multiple_of]
        if coarser:
            yield "multiple_of", max(reversed(coarser), key=lambda one: one.symbol.multiple_of)  # the last tried is the nearest range


def _get_limit(symbol: Symbol, side: str) -> int:
    assert symbol.max is not None
    return symbol.largest(symbol.max) if side == "max" else symbol.smallest


def _pick_between(good: int, bad: int, step: int) -> int:
    """Return a size between two that are further apart than a step: of their order of magnitude first, as large sizes cost most."""
    apart = abs(bad - good) // abs(step)
    middle = math.isqrt(good * bad) if good and bad > 4 * good else (good + bad) // 2
    return good + step * min(max(abs(middle - good) // abs(step), 1), apart - 1)


def _move(symbol: Symbol, side: str, size: int) -> Symbol:
    return replace(symbol, max=size) if side == "max" else replace(symbol, min=max(0, size))


def _narrow(hint: Symbol, current: Symbol) -> Symbol:
    """Return the part of `current` that `hint` allows."""
    top = [size for size in (hint.max, current.max) if size is not None]
    return Symbol(max(hint.min, current.min), min(top), max(hint.multiple_of, current.multiple_of))


def _list_primes(number: int) -> list[int]:
    found, prime = [], 2
    while number > 1:
        if number % prime == 0:
            found.append(prime)
            number //= prime
        else:
            prime += 1
    return list(dict.fromkeys(found))
