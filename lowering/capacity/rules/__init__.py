"""Rules by which ops carry the counts of their dims: one per op, or per kind of op."""

from __future__ import annotations

from typing import Any

import torch

from lowering.capacity.rules import (
    creation,
    detection,
    elementwise,
    indexing,
    joins,
    normalization,
    numbers,
    ordering,
    products,
    reductions,
    selection,
    views,
)
from lowering.capacity.rules.table import Row, join

_TABLE = join(creation.ROWS, elementwise.ROWS, indexing.ROWS, joins.ROWS, normalization.ROWS, numbers.ROWS, ordering.ROWS,
              products.ROWS, reductions.ROWS, selection.ROWS, views.ROWS)
_NAMED = {**detection.NAMED, **products.NAMED}
CHECKS = numbers.CHECKS
ALWAYS = {torch.ops.aten.masked_scatter.default, torch.ops.aten.nonzero_static.default}  # whose rules lower forms without counts too
_INSTEAD = {
    "_pdist_forward": "torch.cdist(x, x) gives the same distances, and carries it",
    "while_loop": "run a recurrence over the whole sequence, with its lengths in torch.nn.utils.rnn.pack_padded_sequence",
}  # fmt: skip


def describe_missing(target: Any) -> str:
    """Describe an op without a rule, and the op to write instead if there is one."""
    name = target._schema.name.partition("::")[2] if isinstance(target, torch._ops.OpOverload) else getattr(target, "__name__", "")
    instead = f": {_INSTEAD[name]}" if name in _INSTEAD else ""
    return f"has no rule that carries the count of a dim through it{instead}"


def find(target: Any) -> Row | None:
    """Return the rule of an op or function, or None if it has none."""
    if target in _TABLE:
        return _TABLE[target]
    if isinstance(target, torch._ops.OpOverload):
        if target._schema.name in _NAMED:
            return _NAMED[target._schema.name]
        return elementwise.POINTWISE if torch.Tag.pointwise in target.tags else None
    return numbers.FUNCTION if numbers.is_function(target) else None
