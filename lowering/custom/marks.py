"""Marks of composites: ops that return their argument, and tell the levels between export and StableHLO where a composite begins and ends.

`operand` marks operand `index` of composite `number`; `result` marks its result, with the name and the attributes (JSON) of the composite.
The StableHLO stage outlines the ops between the marks, and removes the marks.
"""

from __future__ import annotations

from typing import Any

import torch

from lowering.custom.naming import split_name
from lowering.ir import mlir

NAMESPACE = "shapeline_composite"
OPERAND = f"{NAMESPACE}::operand"
RESULT = f"{NAMESPACE}::result"
NAMES = (OPERAND, RESULT)

_LIBRARY = torch.library.Library(NAMESPACE, "DEF")
_LIBRARY.define("operand(Tensor value, int number, int index) -> Tensor")
_LIBRARY.define("result(Tensor value, int number, str name, str attributes) -> Tensor")


def _copy(value: torch.Tensor, *_: object) -> torch.Tensor:
    return value.clone()


for _name in ("operand", "result"):
    _LIBRARY.impl(_name, _copy, "CompositeExplicitAutograd")

operand = torch.ops.shapeline_composite.operand.default
result = torch.ops.shapeline_composite.result.default


def strip_script(graph: torch._C.Graph) -> torch._C.Graph:
    """Replace the marks of a TorchScript graph by their arguments, in place, and return the graph."""
    for node in [node for name in NAMES for node in graph.findAllNodes(name, recurse=True)]:
        node.output().replaceAllUsesWith(node.inputsAt(0))
        node.destroy()
    return graph


def strip_torch_dialect(module: Any) -> None:
    """Replace the marks of a module in the torch dialect by their arguments, in place."""
    for op in list(mlir.walk_operations(module)):
        if op.name == "torch.operator" and split_name(op.attributes["name"].value)[0] in NAMES:
            op.results[0].replace_all_uses_with(op.operands[0])
            op.erase()
