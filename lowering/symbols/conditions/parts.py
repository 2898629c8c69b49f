"""The widest part of the declared ranges in which conditions hold: a range and a step for each symbol, as a model's YAML says it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from lowering.sizes import normal, spelling
from lowering.sizes.expression import Expression
from lowering.sizes.parsing import Term, Unknown
from lowering.sizes.ranges import Bound
from lowering.symbols.conditions.relations import Condition, is_true_at
from lowering.symbols.tracing.exporting import Export

Box = Mapping[str, Bound]

_POINTS = 4096  # sizes tried, of all symbols together
_FAR = 1024  # how far the sizes of a symbol without a maximum are tried
_STEPS = (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 15, 16, 20, 24, 28, 32, 48, 56, 64, 96, 112, 128)
_WORK = 1 << 20  # operations of conditions that are computed


def find_widest(conditions: Sequence[Condition], export: Export) -> dict[str, Bound] | None:
    """Return the part with the largest share of the sizes, by narrowed symbol, or None if a symbol would keep a single size.

    A condition that holds at all sizes that are tried (all sizes, if they are few) is assumed to hold.
    """
    known = [condition for condition in conditions if condition[1]]
    names = sorted({name for _, free in known for name in free})
    declared = {name: Bound(max(0, promised.lower or 0), promised.upper, step) for name, (promised, step) in export.choices.items()}
    if not names:
        return {}
    points = min(_POINTS, max(16, _WORK // sum(term.count for term, _ in known)))
    sizes = {name: _choose_tried(declared[name], int(points ** (1 / len(names)))) for name in names}
    good = {point for point in itertools.product(*sizes.values())
            if all(is_true_at(term, dict(zip(names, point, strict=True))) for term, _ in known)}
    found = [part for name in names if (part := _narrow(name, names, sizes, good, declared[name])) is not None]
    whole = max(found, key=lambda part: share(part, declared), default=None)
    whole = whole if whole is not None else _reduce(names, sizes, good, declared)
    return None if whole is None else {name: bound for name, bound in whole.items() if bound != declared[name]}


def share(part: Box, declared: Box) -> float:
    """Return the share of the declared sizes that is in a part."""
    return math.prod(_count(bound) / _count(declared[name]) for name, bound in part.items())


def spell(part: Box) -> str:
    """Format a part as YAML: `n: {min: 2, max: 64, multiple_of: 2}`."""
    return ", ".join(f"{name}: {{min: {bound.min}, max: {'null' if bound.max is None else bound.max}"
                     f"{f', multiple_of: {bound.multiple_of}' if bound.multiple_of > 1 else ''}}}" for name, bound in part.items())


def list_relations(conditions: Sequence[Condition]) -> list[str]:
    """Return the conditions between several symbols as text, without repetition; `a <= b` and `b <= a` as `a == b`."""
    related = [term for term, free in conditions if len(free) > 1]
    simplest: dict[Expression, Term] = {}  # by the difference that is at most 0
    for term in related:
        difference = _subtract(term)
        if difference is not None and (difference not in simplest or term.count < simplest[difference].count):
            simplest[difference] = term
    texts = []
    for term in related:
        difference = _subtract(term)
        if difference is not None:
            pair = [simplest[side] for side in (difference, -difference) if side in simplest]
            term = min(pair, key=lambda one: (one.count, one.operands[0].count, spelling.spell(one)))
            term = replace(term, op="eq") if len(pair) > 1 else term
        texts.append(spelling.spell(term))
    return list(dict.fromkeys(texts))


def _subtract(term: Term) -> Expression | None:
    """Return the expression that is at most 0 if a condition `a <= b` or `a >= b` holds, or None for other conditions."""
    if term.op not in ("le", "ge"):
        return None
    try:
        left, right = (normal.size(spelling.spell(operand), {}) for operand in term.operands)
    except Unknown:
        return None
    return left - right if term.op == "le" else right - left


def _choose_tried(bound: Bound, limit: int) -> tuple[int, ...]:
    """Return the sizes of a range to try: all if they are few, else the first, the last, and multiples of steps between them."""
    low, high = bound.counts
    top = max(low + 1, _FAR // bound.multiple_of) if high is None else high
    if top - low < limit:
        return tuple(count * bound.multiple_of for count in range(low, top + 1))
    first, last = range(low, low + max(2, limit // 2)), range(max(low, top - max(1, limit // 4)), top + 1)
    between = range(-(-low // 16) * 16, top + 1, max(16, (top - low) // max(1, limit // 4) // 16 * 16))
    return tuple(count * bound.multiple_of for count in sorted({*first, *between, *last}))


def _narrow(
    name: str, names: list[str], sizes: Mapping[str, tuple[int, ...]], good: set[tuple[int, ...]], declared: Bound
) -> dict[str, Bound] | None:
    """Return the widest range of one symbol in which the conditions hold for all sizes of the others."""
    at = names.index(name)
    needed = math.prod(len(tried) for other, tried in sizes.items() if other != name)
    held: dict[int, int] = {}
    for point in good:
        held[point[at]] = held.get(point[at], 0) + 1
    bound = _run(sizes[name], {size for size, count in held.items() if count == needed}, declared)
    return None if bound is None else {name: bound}


def _reduce(
    names: list[str], sizes: Mapping[str, tuple[int, ...]], good: set[tuple[int, ...]], declared: Box
) -> dict[str, Bound] | None:
    """Return a part that narrows several symbols: sizes that break most points are left out first; each symbol keeps its widest range."""
    left = {name: set(tried) for name, tried in sizes.items()}
    bad = set(itertools.product(*sizes.values())) - good
    while bad:
        counts = {(name, point[at]): 0 for point in bad for at, name in enumerate(names)}
        for point in bad:
            for at, name in enumerate(names):
                counts[name, point[at]] += 1
        worst, size = max(counts, key=lambda key: counts[key] / math.prod(len(left[name]) for name in names if name != key[0]))
        left[worst].discard(size)
        if not left[worst]:
            return None
        at = names.index(worst)
        bad = {point for point in bad if point[at] != size}
    bounds = {name: _run(sizes[name], left[name], declared[name]) for name in names}
    return None if None in bounds.values() else {name: bound for name, bound in bounds.items() if bound is not None}


def _run(tried: Sequence[int], allowed: set[int], declared: Bound) -> Bound | None:
    """Return the longest run of allowed multiples of a step, or None if none has two sizes, and the range has."""
    best: Bound | None = None
    longest = 1
    for factor in _STEPS:
        step, run = declared.multiple_of * factor, list[int]()
        for size in [*(size for size in tried if size % step == 0), -1]:
            if size in allowed:
                run.append(size)
            else:
                if len(run) > longest:
                    whole = run[-1] + step > tried[-1]
                    longest, best = len(run), Bound(run[0], (declared.max if factor == 1 else run[-1]) if whole and declared.max is not None
                                                    else None if whole else run[-1], step)
                run = []
    return best


def _count(bound: Bound) -> int:
    low, high = bound.counts
    return max(1, (max(low + 1, _FAR // bound.multiple_of) if high is None else high) - low + 1)
