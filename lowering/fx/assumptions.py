"""Assume the usual case where torch's own code asks whether a size that data decide is 0 or 1, and assert it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sympy
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode, ShapeEnv, free_unbacked_symbols


@contextmanager
def assert_usual_sizes() -> Iterator[None]:
    """Let an export inside go on at a condition such as `u0 == 0`: it is taken to be false, and the program asserts that.

    torch asks this in ops that have another way for an empty tensor, or for one of a single element. Other conditions on data fail as ever.
    """
    before = ShapeEnv.evaluate_expr

    def evaluate(self: ShapeEnv, orig_expr: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return before(self, orig_expr, *args, **kwargs)
        except GuardOnDataDependentSymNode:
            expression = self.replace(orig_expr) if isinstance(orig_expr, sympy.Basic) else orig_expr
            if not _asks_for_few(expression):
                raise
            is_equal = isinstance(expression, sympy.Eq)
            usual = sympy.Not(expression) if is_equal else expression
            self.guard_or_defer_runtime_assert(usual, f"the program was captured for {usual}")
            return sympy.false if is_equal else sympy.true

    ShapeEnv.evaluate_expr = evaluate  # type: ignore[method-assign]
    try:
        yield
    finally:
        ShapeEnv.evaluate_expr = before  # type: ignore[method-assign]


def _asks_for_few(expression: Any) -> bool:
    """Return whether it says that a size is, or is not, 0 or 1."""
    return (isinstance(expression, sympy.Eq | sympy.Ne) and expression.rhs in (0, 1) and bool(free_unbacked_symbols(expression.lhs)))
