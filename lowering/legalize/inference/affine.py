"""Integer tensors whose elements are affine in their index: an offset, and a step for each dim."""

from __future__ import annotations

from dataclasses import dataclass

from lowering.sizes import expression as ex
from lowering.sizes.expression import Expression, Shape


@dataclass(frozen=True)
class AffineMap:
    """The element at index (i0, i1, ...) is offset + steps[0] * i0 + steps[1] * i1 + ..."""

    offset: Expression
    steps: tuple[Expression, ...]

    def __add__(self, other: AffineMap) -> AffineMap:
        return AffineMap(self.offset + other.offset, tuple(a + b for a, b in zip(self.steps, other.steps, strict=True)))

    def times(self, factor: Expression) -> AffineMap:
        return AffineMap(self.offset * factor, tuple(step * factor for step in self.steps))

    @property
    def number(self) -> Expression | None:
        """The element, if all are equal."""
        return self.offset if all(step == ex.ZERO for step in self.steps) else None

    def bounds(self, shape: Shape) -> tuple[int | None, int | None]:
        """Return the lowest and highest element of a tensor with dims `shape`; None if unknown."""
        low = high = self.offset
        for step, dim in zip(self.steps, shape, strict=True):
            reach = step * (dim - ex.ONE)
            if step.is_at_least(0):
                high += reach
            elif (-step).is_at_least(0):
                low += reach
            else:
                return None, None
        return low.bounds()[0], high.bounds()[1]
