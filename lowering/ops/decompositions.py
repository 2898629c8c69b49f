"""Which ops are decomposed at the FX level, and why. Everything else stays whole: torch-mlir lowers it in C++, in milliseconds.

By rule: an op that the torch dialect does not register is decomposed if torch has a decomposition. By table: an op that is registered,
but that a later level refuses, or lowers to wrong numbers.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch._decomp import core_aten_decompositions, decomposition_table
from torch.fx import Node

from lowering.ops import attention, factories, pooling, scans
from lowering.ops.symbolic import kind_of

aten = torch.ops.aten

Decomposition = Callable[..., Any]


def _torchs(op: Any) -> Decomposition:
    return decomposition_table[op]  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Row:
    """How an op is decomposed, why it cannot stay whole, and in which forms (`when`, of the node)."""

    decomposition: Decomposition
    reason: str
    when: Callable[[Node], bool] = lambda node: True


TABLE: dict[Any, Row] = {
    aten.scaled_dot_product_attention.default: Row(attention.scaled_dot_product, "only its plain form lowers: no scale, no is_causal"),
    aten.native_layer_norm.default: Row(_torchs(aten.native_layer_norm.default), "no lowering with a dynamic dim (layer_norm has one)"),
    aten.zeros.default: Row(factories.zeros, "needs a constant shape"),
    aten.cumsum.default: Row(scans.cumsum, "no lowering to StableHLO"),
    aten.adaptive_avg_pool1d.default: Row(pooling.adaptive_average, "needs a constant kernel", pooling.to_one),
    aten.adaptive_avg_pool2d.default: Row(pooling.adaptive_average, "needs a constant kernel", pooling.to_one),
}


def choose(node: Node) -> Decomposition | None:
    """The decomposition of a node that must not stay whole, else None."""
    op = node.target
    if not isinstance(op, torch._ops.OpOverload):
        return None
    row = TABLE.get(op)
    if row is not None:
        return row.decomposition if row.when(node) else None
    return _by_rule(op)


@functools.cache
def _by_rule(op: torch._ops.OpOverload) -> Decomposition | None:
    if op.namespace != "aten" or kind_of(op) is not None or is_registered(op):
        return None
    if op in decomposition_table:
        return _torchs(op)
    return op.decompose if op._can_decompose() else None


def is_registered(op: torch._ops.OpOverload) -> bool:
    """Whether the torch dialect has an op of this schema."""
    return _context().is_registered_operation(f"torch.{op._schema.name.replace('::', '.')}{_suffix(op)}")  # type: ignore[no-any-return]


def _suffix(op: torch._ops.OpOverload) -> str:
    return f".{op._overloadname}" if op._overloadname != "default" else ""


@functools.cache
def _context() -> Any:
    from lowering import mlir

    return mlir.torch_context()


def core() -> dict[Any, Decomposition]:
    """All of torch's core ATen decompositions."""
    return dict(core_aten_decompositions())


def torch_mlir() -> dict[Any, Decomposition]:
    """What `torch_mlir.fx.export_and_import` decomposes unless it is told otherwise."""
    from torch_mlir.extras.fx_decomp_util import get_decomposition_table

    return dict(get_decomposition_table())
