"""Upper bounds of sizes that data decide, as expressions of the sizes of arguments."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import sympy
import torch
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols
from torch.utils._sympy.functions import FloorDiv, Max, Min, Mod, PythonMod
from torch.utils._sympy.numbers import int_oo
from torch.utils._sympy.value_ranges import ValueRanges, bound_sympy

LARGEST = 2**31 - 1  # a larger bound is none: no dim is so long


def to_expression(size: Any) -> sympy.Expr:
    """Return a size or another number of a program as an expression."""
    symbolic = isinstance(size, torch.SymInt | torch.SymFloat | torch.SymBool)
    return size.node.expr if symbolic else sympy.sympify(size)


def is_counted(value: Any) -> bool:
    """Return whether data decide this size or number, or the size of a dim of a tensor in it."""
    if isinstance(value, sympy.Basic):
        return bool(free_unbacked_symbols(value))
    if isinstance(value, torch.Tensor):
        return any(map(is_counted, value.shape))
    if isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool):
        return bool(free_unbacked_symbols(value.node.expr))
    return isinstance(value, list | tuple) and any(map(is_counted, value))


def has_elements(size: sympy.Expr) -> bool:
    """Return whether a size is at least 1 for all sizes of arguments and counts from 0."""
    return bool(bound_sympy(size, {symbol: ValueRanges(0, int_oo) for symbol in size.free_symbols}).lower >= 1)


def is_at_most(size: sympy.Expr, other: sympy.Expr) -> bool:
    """Return whether a size is no larger than another by its form."""
    return bool(size == other or (isinstance(size, Min | sympy.Min) and other in size.args))


@dataclass
class Bounds:
    """The capacities of the symbols that data decide.

    env: torch's ShapeEnv. capacities: of each symbol, what its dims are padded to. derived: the bounds that follow from ops alone, which no
    run exceeds.
    """

    env: Any
    capacities: dict[sympy.Symbol, sympy.Expr] = field(default_factory=dict)
    derived: dict[sympy.Symbol, sympy.Expr] = field(default_factory=dict)

    def find(self, expression: sympy.Expr) -> sympy.Expr | None:
        """Return the largest value of an expression while no count exceeds its capacity; None if no form of it is known."""
        return _find_bound(expression, self.capacities, self._is_nonnegative)

    def largest(self, expression: sympy.Expr) -> int | None:
        """Return the largest value of an expression over the ranges of its symbols; None where it has none."""
        upper = bound_sympy(expression, self._ranges(expression)).upper
        return None if upper in (int_oo, sympy.oo) or upper > LARGEST else int(upper)

    def proves(self, condition: sympy.Basic) -> bool:
        """Return whether a condition holds for all counts from 0 to the bounds that follow from ops."""
        if condition is sympy.true or condition is True:
            return True
        if not isinstance(condition, sympy.Rel):
            return False
        if isinstance(condition, sympy.Le | sympy.Ge) and is_at_most(condition.lts, condition.gts):
            return True
        ranges = self._ranges(condition, of_inputs=True)
        for symbol in free_unbacked_symbols(condition):
            largest = self.largest(self.derived[symbol]) if symbol in self.derived else None
            ranges[symbol] = ValueRanges(0 if symbol in self.derived else -int_oo, int_oo if largest is None else largest)
        if bound_sympy(condition, ranges).lower is sympy.true:
            return True
        if not isinstance(condition, sympy.Le | sympy.Lt):
            return False
        bound = _find_bound(sympy.expand(condition.lhs - condition.rhs), self.derived, lambda part: part in self.derived)
        if bound is None:
            return False
        upper = bound_sympy(sympy.expand(bound), ranges).upper
        return bool(upper <= 0 if isinstance(condition, sympy.Le) else upper < 0)

    def _ranges(self, expression: sympy.Basic, of_inputs: bool = False) -> dict[sympy.Symbol, Any]:
        known = self.env.var_to_range
        return {symbol: known[symbol] for symbol in expression.free_symbols
                if symbol in known and not (of_inputs and free_unbacked_symbols(symbol))}

    def _is_nonnegative(self, expression: sympy.Expr) -> bool:
        return bool(bound_sympy(expression, self._ranges(expression)).lower >= 0)


def _find_bound(expression: sympy.Expr, known: Mapping[sympy.Symbol, sympy.Expr],
                is_nonnegative: Callable[[Any], bool]) -> sympy.Expr | None:
    def bound(part: sympy.Expr) -> sympy.Expr | None:
        return _find_bound(part, known, is_nonnegative)

    if not free_unbacked_symbols(expression):
        return expression
    if expression.is_Symbol:
        return known.get(expression)
    if isinstance(expression, sympy.Add):
        return _combine(sympy.Add, map(bound, expression.args))
    if isinstance(expression, sympy.Mul):
        factor, rest = expression.as_coeff_Mul()
        if not is_nonnegative(rest):
            return None
        if factor < 0:
            return sympy.Integer(0)
        parts = rest.args if isinstance(rest, sympy.Mul) else (rest,)
        if not all(map(is_nonnegative, parts)):
            return None
        return _combine(lambda *bounds: factor * sympy.Mul(*bounds), map(bound, parts))
    if isinstance(expression, FloorDiv) and expression.args[1].is_Integer and expression.args[1] > 0:
        return _combine(lambda top: FloorDiv(top, expression.args[1]), [bound(expression.args[0])])
    if isinstance(expression, Mod | PythonMod) and expression.args[1].is_Integer and expression.args[1] > 0:
        return expression.args[1] - 1
    if isinstance(expression, Max | sympy.Max):
        return _combine(Max, map(bound, expression.args))
    if isinstance(expression, Min | sympy.Min):
        found = [each for part in expression.args if (each := bound(part)) is not None]
        fixed = [each for each in found if each.is_Integer]
        return min(fixed) if fixed else found[0] if found else None
    return None


def _combine(make: Callable[..., Any], bounds: Any) -> sympy.Expr | None:
    bounds = list(bounds)
    return None if any(bound is None for bound in bounds) else make(*bounds)
