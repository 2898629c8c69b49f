"""Find the branches of the model's code that torch decides by assuming that no size is 0 or 1. It neither guards nor logs them."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import sympy
import torch
from torch.export import ExportedProgram

from lowering.fx.tracing import squeezes
from lowering.symbols.conditions.deferred import Deferred, judge_condition, list_decided
from lowering.symbols.conditions.relations import judge
from lowering.symbols.schema import Line
from lowering.symbols.tracing.exporting import Export
from lowering.symbols.tracing.frames import Spot, convert_spot, is_model_code

_TORCH = os.path.realpath(torch.__file__)
_LAYERS = str(Path(_TORCH).parent / "nn") + os.sep  # branches of layers count as the model's own


@dataclass(frozen=True)
class Branch:
    """A condition on sizes that tracing assumed, and sizes (by the author's names) at which it is false."""

    condition: Deferred
    fails_at: dict[str, int]


@contextmanager
def watch_branches() -> Iterator[dict[sympy.Basic, Spot]]:
    """Collect the conditions on which the model's code branches inside, in the form that was true, each with its first line."""
    found: dict[sympy.Basic, Spot] = {}
    decide = torch.SymBool.__bool__

    def observe(self: torch.SymBool) -> bool:
        value = bool(decide(self))
        frame = sys._getframe(1)
        while frame.f_code.co_filename == _TORCH and frame.f_back is not None:  # of SymInt.__bool__
            frame = frame.f_back
        file = frame.f_code.co_filename
        if is_model_code(file) or file.startswith(_LAYERS):
            condition = self.node.expr if value else sympy.Not(self.node.expr)
            found.setdefault(condition, (file, frame.f_lineno, frame.f_code.co_name))
        return value

    torch.SymBool.__bool__ = observe  # type: ignore[method-assign]
    try:
        yield found
    finally:
        torch.SymBool.__bool__ = decide  # type: ignore[method-assign]


def find_unguarded(export: Export, seen: dict[sympy.Basic, Spot]) -> tuple[Branch, ...]:
    """Return the branches that some declared sizes take differently and that torch did not log as guards."""
    asserted = {expr for expr, _ in list_decided(export)}
    conditions: dict[str, Line | None] = {str(expr): convert_spot(spot) for expr, spot in seen.items()}
    if export.program is not None:
        conditions |= dict(_list_squeezed(export.program))
    found: dict[str, Branch] = {}
    for expr, line in conditions.items():
        if expr not in asserted and (condition := judge_condition(expr, line, export)) is not None:
            holds, fails_at = judge(expr, export)
            if holds == "no":
                found.setdefault(condition.guard, Branch(condition, fails_at))
    return tuple(found.values())


def _list_squeezed(program: ExportedProgram) -> Iterator[tuple[str, Line | None]]:
    """Iterate over the conditions of squeezes that keep a dim because tracing assumed that it is not 1."""
    for node, dims in squeezes.list_dynamic(program):
        for dim in dims:
            yield str(sympy.Ne(node.args[0].meta["val"].shape[dim].node.expr, 1)), None  # type: ignore[union-attr]
