"""Which of the promised sizes are left by the conditions of a program, free of torch."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from lowering.sizes import evaluation as written
from lowering.sizes.ranges import Range

MOST = 4096  # sizes of one range tried to find that only one is left


def every(promised: Range, step: int) -> list[int]:
    """All sizes of a range; none where they are too many to try each."""
    lower, upper = promised.counts(step)
    return [number * step for number in range(lower, upper + 1)] if upper is not None and upper - lower < MOST else []


def only(conditions: Iterable[str], name: str, sizes: Sequence[int]) -> int | None:
    """The one of several sizes of `name` that is left by all conditions on it alone; None where none is, or more than one."""
    own = [condition for condition in conditions if _is_of(condition, name)]
    if not own or len(sizes) < 2:
        return None
    allowed = list(itertools.islice((size for size in sizes if all(_holds(condition, name, size) for condition in own)), 2))
    return allowed[0] if len(allowed) == 1 else None


def _is_of(condition: str, name: str) -> bool:
    try:
        return written.symbols_in(condition) == {name}
    except written.Unknown:
        return False


def _holds(condition: str, name: str, size: int) -> bool:
    """A condition that cannot be told, of a function that is not known here, excludes nothing."""
    try:
        return bool(written.evaluate(condition, {name: size}))
    except written.Unknown:
        return True
