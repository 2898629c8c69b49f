"""Assume the usual case where torch's own code asks whether a size that data decide is 0 or 1, and assert it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sympy
from torch._library.fake_impl import FakeImplCtx
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
            usual = _answer_usual(expression)
            if usual is None or any(self.bound_sympy(symbol).upper <= 1 for symbol in free_unbacked_symbols(expression)):
                raise  # a symbol of 0 and 1 alone is the truth value of a tensor, of which no answer is the usual one
            holds = expression if usual else sympy.Not(expression)
            self.guard_or_defer_runtime_assert(holds, f"the program was captured for {holds}")
            return sympy.true if usual else sympy.false

    ShapeEnv.evaluate_expr = evaluate  # type: ignore[method-assign]
    try:
        with count_from_zero():
            yield
    finally:
        ShapeEnv.evaluate_expr = before  # type: ignore[method-assign]


@contextmanager
def count_from_zero() -> Iterator[None]:
    """Let sizes that custom ops decide be 0 and 1 too, which `create_unbacked_symint` excludes unless the op gives a minimum."""
    before = FakeImplCtx.create_unbacked_symint

    def create(self: FakeImplCtx, *, min: int = 0, max: int | None = None) -> Any:  # noqa: A002 - torch's names
        return self.new_dynamic_size(min=min, max=max)

    FakeImplCtx.create_unbacked_symint = create  # type: ignore[method-assign]
    try:
        yield
    finally:
        FakeImplCtx.create_unbacked_symint = before  # type: ignore[method-assign]


def _answer_usual(expression: Any) -> bool | None:
    """Return the truth of a condition at sizes other than 0 and 1; None if it does not compare a size with one of these."""
    if isinstance(expression, sympy.Eq | sympy.Ne):
        asks = expression.rhs in (0, 1) and free_unbacked_symbols(expression.lhs)
        return isinstance(expression, sympy.Ne) if asks else None
    if not isinstance(expression, sympy.Rel):
        return None
    is_strict = isinstance(expression, sympy.Gt | sympy.Lt)
    if expression.lts == (0 if is_strict else 1) and free_unbacked_symbols(expression.gts):  # size > 0, size >= 1
        return True
    if expression.gts == (1 if is_strict else 0) and free_unbacked_symbols(expression.lts):  # size < 1, size <= 0
        return False
    return None
