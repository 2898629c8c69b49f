"""Ranges of sizes, and the arithmetic of multiples that every reader of them needs."""

from __future__ import annotations

from dataclasses import dataclass


def ceildiv(dividend: int, divisor: int) -> int:
    """Divide and round up."""
    return -(-dividend // divisor)


def round_up(size: int, step: int) -> int:
    """Return the smallest multiple of `step` that is `size` or more."""
    return ceildiv(size, step) * step


def round_down(size: int, step: int) -> int:
    """Return the largest multiple of `step` that is `size` or less."""
    return size // step * step


@dataclass(frozen=True)
class Bound:
    """Promised range of a symbol: min <= symbol <= max (None: unbounded), and a multiple of `multiple_of`."""

    min: int = 0
    max: int | None = None
    multiple_of: int = 1

    def admits(self, size: int) -> bool:
        return self.min <= size and (self.max is None or size <= self.max) and size % self.multiple_of == 0

    @property
    def smallest(self) -> int:
        """The smallest size in the range."""
        return round_up(self.min, self.multiple_of)

    def largest(self, limit: int) -> int:
        """Return the largest multiple that is `limit` or less."""
        return round_down(limit, self.multiple_of)

    @property
    def counts(self) -> tuple[int, int | None]:
        """The range of `symbol // multiple_of`, which has no gaps; sizes below 0 are left out."""
        return ceildiv(max(self.min, 0), self.multiple_of), None if self.max is None else self.max // self.multiple_of

    def __str__(self) -> str:
        multiple = f", a multiple of {self.multiple_of}" if self.multiple_of > 1 else ""
        return f"[{self.min}, {'oo' if self.max is None else self.max}]{multiple}"


@dataclass(frozen=True)
class Range:
    """lower <= size <= upper; None: unbounded on that side."""

    lower: int | None = None
    upper: int | None = None

    def __str__(self) -> str:
        return f"[{'-oo' if self.lower is None else self.lower}, {'oo' if self.upper is None else self.upper}]"

    def within(self, other: Range) -> bool:
        """Return whether every size of this range is one of `other`."""
        low = other.lower is None or (self.lower is not None and self.lower >= other.lower)
        return low and (other.upper is None or (self.upper is not None and self.upper <= other.upper))

    def counts(self, step: int) -> tuple[int, int | None]:
        """Return the range of `size // step` over the multiples of `step` in the range; sizes below 0 are left out."""
        return Bound(self.lower or 0, self.upper, step).counts
