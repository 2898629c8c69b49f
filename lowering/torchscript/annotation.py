"""Annotate the nodes of custom ops with the dims of their results, which no later level could know."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from lowering.custom.naming import DIMS, format_dims, is_custom
from lowering.fx.names import Names, name_dims


@dataclass(frozen=True)
class Annotation:
    """names: the trace's symbols as expressions in the model's symbols. kept: ATen ops that stay whole (see `is_custom`)."""

    names: Names = field(default_factory=dict)
    kept: Collection[str] = ()

    def mark(self, created: torch._C.Node, op: torch._ops.OpOverload, values: Iterable[Any]) -> None:
        """Write the dims of its results into the node of a custom op. Other nodes are not changed."""
        if is_custom(op._schema.name, op._schema.overload_name, self.kept):
            shapes = [name_dims(getattr(leaf, "shape", ()), self.names) for leaf in flatten(values) if leaf is not None]
            created.s_(DIMS, format_dims(shapes))


UNNAMED = Annotation()  # symbols keep torch's names, and no ATen op is kept


def flatten(values: Iterable[Any]) -> Sequence[Any]:
    """Return `values` with each list replaced by its elements."""
    return [leaf for value in values for leaf in (value if isinstance(value, list | tuple) else [value])]
