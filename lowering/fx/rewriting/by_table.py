"""Decompose a functional program by a table of torch's op by op, where that gives what a retrace of the whole program would.

A retrace costs more than everything else in an export: it runs every op again, and decomposes each layer of a network anew.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch._export.utils import _collect_all_valid_cia_ops, _is_cia_op
from torch.export import ExportedProgram
from torch.fx import Node

from lowering.errors import Unsupported
from lowering.fx import cleanup
from lowering.fx.rewriting.decompose import Decomposition, Specialized, decompose

_KEPT = (
    torch.ops.aten._assert_tensor_metadata.default,  # dropped later from every program
    torch.ops.aten.reshape.default,  # what views become in every program
    torch.ops.aten.sym_size.int,
)


def decompose_by_table(program: ExportedProgram, table: Mapping[Any, Decomposition], is_kept: Callable[[Any], bool],
                       specialized: list[Specialized]) -> bool:
    """Decompose the ops of `table`, and composite ops that torch's retrace takes apart without one, in place.

    Return whether the program then has the form of a retrace. Where it has not, it may be decomposed in part, and a retrace still gives it
    that form. Programs with loops, branches, or sizes that data decide are left to the retrace.

    is_kept: whether an op stays. specialized: see `decompose`.
    """
    module = program.graph_module
    if len(list(cleanup.bodies(module))) > 1 or cleanup.has_data_dependent_sizes(module):
        return False
    preserved = _collect_all_valid_cia_ops()

    def choose(node: Node) -> Decomposition | None:
        op = node.target
        if not isinstance(op, torch._ops.OpOverload) or op in _KEPT or is_kept(op):
            return None
        if (row := table.get(op)) is not None:
            return row
        return op.decompose if _is_cia_op(op) and op not in preserved else None

    try:
        decompose(module, choose, specialized)
    except Unsupported:  # the retrace tells why, or has another way
        return False
    return cleanup.is_functional(module) and all(choose(node) is None for node in cleanup.calls(module))
