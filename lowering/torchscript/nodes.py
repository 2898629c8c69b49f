"""Inputs, outputs and blocks of the nodes of a TorchScript graph.

The iterators of torch's bindings end in a C++ exception, which costs more than all other work on most nodes. Therefore values are read by
position, and blocks only where a node may have some.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from lowering.ir import source_lines

_PLAIN = ("prim::Constant", "prim::ListConstruct", "prim::ListUnpack", "prim::TupleConstruct", "prim::TupleUnpack", "prim::GetAttr")


def nodes(graph: torch._C.Graph | torch._C.Block) -> Iterator[torch._C.Node]:
    """Yield all nodes in program order, those of nested blocks included."""
    for node in graph.nodes():
        yield node
        for block in blocks(node):
            yield from nodes(block)


def inputs(node: torch._C.Node) -> list[torch._C.Value]:
    """Return the inputs of a node."""
    return [node.inputsAt(position) for position in range(node.inputsSize())]


def outputs(node: torch._C.Node) -> list[torch._C.Value]:
    """Return the outputs of a node."""
    return [node.outputsAt(position) for position in range(node.outputsSize())]


def blocks(node: torch._C.Node) -> Sequence[torch._C.Block]:
    """Return the blocks of a node. Only kinds of `prim` have any."""
    kind = node.kind()
    return list(node.blocks()) if kind.startswith("prim::") and kind not in _PLAIN else ()


def place(node: torch._C.Node) -> str:
    """Return the kind of a node, with its user line."""
    line = source_lines.find_script_line(node)
    return f"{node.kind()} at {line}" if line else node.kind()


def find_captured(block: torch._C.Block) -> list[int]:
    """Return the values, by number, that a block uses but does not define."""
    used: dict[int, None] = {}
    made = {value.unique() for value in block.inputs()}
    _collect_uses(block, used, made)
    return [unique for unique in used if unique not in made]


def _collect_uses(block: torch._C.Block, used: dict[int, None], made: set[int]) -> None:
    for node in block.nodes():
        used |= dict.fromkeys(value.unique() for value in inputs(node))
        made |= {value.unique() for value in outputs(node)}
        for inner in node.blocks():
            made |= {value.unique() for value in inner.inputs()}
            _collect_uses(inner, used, made)
    used |= dict.fromkeys(value.unique() for value in block.outputs())


def is_written(value: torch._C.Value) -> bool:
    """Return whether an op writes to a tensor or to a view of it. Uses through lists and attributes are not followed."""
    for use in value.uses():
        if use.user.schema() == "(no schema)":
            continue
        alias = torch._C.parse_schema(use.user.schema()).arguments[use.offset].alias_info
        if alias is None:
            continue
        if alias.is_write or any(output.type().kind() == "TensorType" and is_written(output) for output in outputs(use.user)):
            return True
    return False
