"""The promised sizes that the conditions of a program allow. Does not import torch."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from lowering.sizes import evaluation as written
from lowering.sizes.ranges import Bound, Range

MOST = 4096  # maximum number of sizes of one range to try


def list_sizes(promised: Range, step: int) -> list[int]:
    """List all sizes of a range, or none if there are too many to try."""
    lower, upper = promised.counts(step)
    return [number * step for number in range(lower, upper + 1)] if upper is not None and upper - lower < MOST else []


def narrow(bounds: Mapping[str, Bound], conditions: Sequence[str]) -> dict[str, Bound]:
    """Return the bounds of the sizes that satisfy each condition on one symbol alone.

    A range with too many sizes to try, and one that no size satisfies, stays as it is.
    """
    found = {}
    for name, bound in bounds.items():
        own = [condition for condition in conditions if _is_about(condition, name)]
        sizes = list_sizes(Range(bound.min, bound.max), bound.multiple_of) if own else []
        allowed = [size for size in sizes if all(_holds(condition, name, size) for condition in own)]
        found[name] = replace(bound, min=allowed[0], max=allowed[-1]) if allowed else bound
    return found


def find_only(conditions: Iterable[str], name: str, sizes: Sequence[int]) -> int | None:
    """Return the only one of `sizes` that satisfies all conditions on `name` alone. Return None if there are none or several."""
    own = [condition for condition in conditions if _is_about(condition, name)]
    if not own or len(sizes) < 2:
        return None
    allowed = list(itertools.islice((size for size in sizes if all(_holds(condition, name, size) for condition in own)), 2))
    return allowed[0] if len(allowed) == 1 else None


def _is_about(condition: str, name: str) -> bool:
    try:
        return written.symbols_in(condition) == {name}
    except written.Unknown:
        return False


def _holds(condition: str, name: str, size: int) -> bool:
    """Evaluate a condition. One that cannot be evaluated, because it uses an unknown function, counts as true."""
    try:
        return bool(written.evaluate(condition, {name: size}))
    except written.Unknown:
        return True
