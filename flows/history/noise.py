"""Whether a time or a size is really another one: judged by how much the same job varied in the runs before."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

KNOWN = 3  # earlier runs from which on the noise counts as known
SPREADS = 5.0  # how many (normal) standard deviations from the median still are noise
SEEN = 1.1  # what was seen twice, and a little more, is noise: some jobs have two usual times
NORMAL = 1.4826  # of a normal distribution: standard deviation / median absolute deviation


@dataclass(frozen=True)
class Measure:
    """A kind of cost. part and least: a smaller change, relative and absolute, never counts; unknown: how many times as much counts
    where the noise is not known."""

    part: float
    least: float
    unknown: float


TIME = Measure(part=0.3, least=0.5, unknown=2.0)
MEMORY = Measure(part=0.1, least=64 << 20, unknown=1.5)


@dataclass(frozen=True)
class Verdict:
    """usual: the median before; margin: what is noise around it; change: new less usual, 0 within the margin; runs: judged by how many."""

    usual: float
    margin: float
    change: float
    runs: int


def judge(new: float, before: Sequence[float], measure: Measure) -> Verdict:
    """`new` against what was measured `before` (at least once)."""
    usual = statistics.median(before)
    margin = max(measure.part * usual, measure.least)
    if len(before) >= KNOWN:
        apart = sorted(abs(value - usual) for value in before)
        margin = max(margin, SPREADS * NORMAL * statistics.median(apart), SEEN * apart[-2])  # one odd run before excuses nothing, two do
    else:
        margin = max(margin, 2 * measure.least, (measure.unknown - 1) * usual if new > usual else (1 - 1 / measure.unknown) * usual)
    change = new - usual
    return Verdict(usual, margin, change if abs(change) > margin else 0.0, len(before))
