"""The rows of the tables of decompositions, torch's own decompositions, and the usual reasons for a row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch._refs  # registers the half of torch's decompositions that nothing else loads
from torch._decomp import decomposition_table
from torch.fx import Node

NOT_DEFINED = "no lowering, and no definition by other ops in torch"
NO_DYNAMIC = "no lowering with a dynamic dim"
NONE = "no lowering to StableHLO"

Decomposition = Callable[..., Any]


def find_in_table(op: torch._ops.OpOverload) -> Decomposition:
    """Return torch's decomposition of an op. Raises KeyError if there is none."""
    return decomposition_table[op]  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Row:
    """The decomposition of an op, the reason why the op cannot stay whole, and its forms that are decomposed (`when`, of the node)."""

    decomposition: Decomposition
    reason: str
    when: Callable[[Node], bool] = lambda node: True


def decompose_composite(op: torch._ops.OpOverload) -> Decomposition:
    """Return the definition of a composite op by other ops."""
    return op.decompose  # type: ignore[no-any-return]


def find_decomposition(op: torch._ops.OpOverload) -> Decomposition | None:
    """Return torch's definition of an op by other ops, as a composite or in its table, or None if there is none."""
    if op._can_decompose():
        return decompose_composite(op)
    return decomposition_table.get(op)
