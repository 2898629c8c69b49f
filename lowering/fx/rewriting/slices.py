"""Assumptions on sizes in the traced lengths of slices.

torch traces dims at 2 and more, and a smaller size may clamp a bound of a slice.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import sympy
import torch
from torch.export import ExportedProgram
from torch.fx import Node

from lowering.fx import cleanup

_TRIED = 4096  # the most sizes to try: larger constant bounds do not occur in practice


def find_assumptions(program: ExportedProgram) -> list[sympy.Expr]:
    """Return `size >= k` for each slice whose traced length is wrong for smaller sizes.

    Only sizes within the ranges of the program are tried. The conditions have no duplicates.
    """
    lowers = {sympy.sympify(symbol): int(interval.lower) for symbol, interval in program.range_constraints.items()
              if isinstance(interval.lower, int | sympy.Integer)}
    nodes = (node for body in cleanup.bodies(program.graph_module) for node in cleanup.calls(body))
    found = (_find_assumption(node, lowers) for node in nodes if node.target is torch.ops.aten.slice.Tensor)
    return list(dict.fromkeys(condition for condition in found if condition is not None))


def _find_assumption(node: Node, lowers: dict[Any, int]) -> sympy.Expr | None:
    """Return the condition under which the traced length of a slice is right, or None if it always is."""
    defaults = enumerate((0, None, None, 1), 1)
    dim, start, end, step = (node.args[place] if place < len(node.args) else default for place, default in defaults)
    source, value = node.args[0].meta["val"], node.meta["val"]  # type: ignore[union-attr]
    if not all(bound is None or isinstance(bound, int) for bound in (start, end, step)) or not isinstance(source.shape[dim], torch.SymInt):
        return None
    size, length = _to_expression(source.shape[dim]), _to_expression(value.shape[dim])
    any_size = sympy.Symbol("size", integer=True)
    length = length.subs(size, any_size)
    if length.free_symbols - {any_size} or not size.free_symbols <= set(lowers):
        return None
    lowest = max(int(size.subs({symbol: lowers[symbol] for symbol in size.free_symbols})), 0)
    wrong = [tried for tried in _list_sizes_to_try(lowest, start, end, step)
             if length.subs(any_size, tried) != len(range(tried)[start:end:step])]
    return sympy.Ge(size, max(wrong) + 1, evaluate=False) if wrong else None  # as torch's symbols are positive, `size >= 1` would be true


def _list_sizes_to_try(lowest: int, *bounds: Any) -> Iterator[int]:
    """Yield the sizes that can clamp a bound."""
    reach = max(abs(bound) for bound in bounds if bound is not None and abs(bound) < sys.maxsize)
    yield from range(lowest, min(reach + 1, _TRIED))


def _to_expression(size: Any) -> sympy.Expr:
    return sympy.sympify(size.node.expr if isinstance(size, torch.SymInt) else int(size))
