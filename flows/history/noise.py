"""Noise of times and sizes: whether a change is significant, judged by the job's variation in earlier runs."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

KNOWN = 3  # minimum number of earlier runs to estimate the noise
SPREADS = 5.0  # deviations from the median up to this many (normal) standard deviations are noise
SEEN = 1.1  # deviations up to this factor of one seen twice are noise: some jobs have two usual times
NORMAL = 1.4826  # standard deviation / median absolute deviation of a normal distribution


@dataclass(frozen=True)
class Measure:
    """A kind of cost. part, least: relative and absolute changes below these are never significant.

    unknown: the factor that is significant if the noise is unknown.
    """

    part: float
    least: float
    unknown: float


TIME = Measure(part=0.3, least=0.5, unknown=2.0)
MEMORY = Measure(part=0.1, least=64 << 20, unknown=1.5)


@dataclass(frozen=True)
class Verdict:
    """The judgement of a new value. usual: the median of earlier values; margin: the noise around it; runs: number of earlier values.

    change: new value minus usual, or 0 if within the margin.
    """

    usual: float
    margin: float
    change: float
    runs: int


def judge(new: float, before: Sequence[float], measure: Measure) -> Verdict:
    """Judge `new` against the values measured `before`, at least one."""
    usual = statistics.median(before)
    margin = max(measure.part * usual, measure.least)
    if len(before) >= KNOWN:
        apart = sorted(abs(value - usual) for value in before)
        # apart[-2]: two earlier outliers widen the margin, one does not.
        margin = max(margin, SPREADS * NORMAL * statistics.median(apart), SEEN * apart[-2])
    else:
        margin = max(margin, 2 * measure.least, (measure.unknown - 1) * usual if new > usual else (1 - 1 / measure.unknown) * usual)
    change = new - usual
    return Verdict(usual, margin, change if abs(change) > margin else 0.0, len(before))
