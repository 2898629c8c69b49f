"""Slices of fixed length at an index that moves with a loop.

torch cannot tell that such a slice never reaches beyond the end of the dim, but the first and the last iteration can.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import sympy
import torch
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols, statically_known_true

from lowering.interpreter.lists import is_data_dependent
from lowering.ops import indexing

Iterations: TypeAlias = Mapping[sympy.Symbol, tuple[Any, Any, Any]]  # by the symbol of a loop's iteration: it, the first and the last


def take_window(given: list[Any], iterations: Iterations) -> torch.Tensor | None:
    """Return `aten::slice(tensor, dim, start, stop, step)` if it lies inside the tensor in every iteration, else None.

    Its length must be the same in every iteration.
    """
    if not isinstance(given[0], torch.Tensor):
        return None  # a slice of a list
    tensor, dim, start, stop, step = given
    if not is_data_dependent(start) or not is_data_dependent(stop) or step != 1:
        return None
    length = (stop - start).node.maybe_as_int() if isinstance(stop - start, torch.SymInt) else stop - start
    if length is None or length < 1 or not _is_always_true(start, iterations, lambda place: place >= 0):
        return None
    if not _is_always_true(stop, iterations, lambda place: place <= tensor.shape[dim]):
        return None
    if length == 1:
        return indexing.select(tensor, dim, start).unsqueeze(dim)
    return tensor.index_select(dim, torch.arange(length) + torch.scalar_tensor(start, dtype=torch.int64))


def _is_always_true(place: torch.SymInt, iterations: Iterations, holds: Callable[[Any], Any]) -> bool:
    """Return whether a condition holds in every iteration.

    It does if it holds in the first and the last one, because `place` is linear in the iteration.
    """
    moving = free_unbacked_symbols(place)
    if len(moving) != 1 or not moving <= set(iterations):
        return False
    (symbol,) = moving
    factor = place.node.expr.diff(symbol)
    if not factor.is_Integer:
        return False
    iteration, *ends = iterations[symbol]
    offset = place - int(factor) * iteration
    return all(statically_known_true(holds(offset + int(factor) * end)) for end in ends)
