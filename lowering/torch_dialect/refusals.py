"""Report the constructs of a TorchScript graph that the torch dialect cannot express."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from lowering.errors import Problem
from lowering.ir import source_lines
from lowering.torch_dialect.vocabulary import STRUCTURAL, TypeTable, is_literal
from lowering.torchscript.nodes import blocks, outputs

# Kinds of object graphs and of training or debugging runs, which have no meaning in a function of tensors.
_REFUSED = {
    "prim::GetAttr": "reads an attribute of an object; those of a scripted module become arguments before it is imported",
    "prim::SetAttr": "writes an attribute of an object",
    "prim::CallMethod": "calls a method that was not inlined",
    "prim::CallFunction": "calls a function that was not inlined",
    "prim::CreateObject": "creates an object",
    "prim::PythonOp": "calls Python",
    "prim::fork": "starts a task",
    "aten::wait": "waits for a task",
    "prim::Enter": "enters a context",
    "prim::Exit": "leaves a context",
}


def find_problems(graph: torch._C.Graph | torch._C.Block) -> list[Problem]:
    """Report every node and argument that the torch dialect cannot express, with its user line. Nested blocks are included."""
    untyped = [] if isinstance(graph, torch._C.Block) else _find_untyped(graph.inputs())
    found = [Problem(f"{name} (argument)", cause) for name, cause in untyped]
    for node in graph.nodes():
        found += _check_node(node)
        for block in blocks(node):
            found += find_problems(block)
    return found


def _check_node(node: torch._C.Node) -> list[Problem]:
    kind, untyped = node.kind(), _find_untyped(outputs(node))
    unruled = kind not in _REFUSED and kind not in STRUCTURAL and node.schema() == "(no schema)"
    odd = kind == "prim::Constant" and not is_literal(node.output().toIValue())
    if not (kind in _REFUSED or unruled or odd or untyped):
        return []  # the usual case; looking up the line would take longer than everything else
    line = source_lines.find_script_line(node)
    place = f"{kind} at {line}" if line else kind
    found = [Problem(place, _REFUSED[kind])] if kind in _REFUSED else []
    if unruled:
        found.append(Problem(place, "has no schema, and the importer has no rule for it", str(node).strip().splitlines()[0]))
    found += [Problem(f"{name} ({place})", cause) for name, cause in untyped]
    if odd:
        found.append(Problem(place, f"the torch dialect has no constant of type {node.output().type()}"))
    return found


def _find_untyped(values: Iterable[torch._C.Value]) -> list[tuple[str, str]]:
    """Return the name of each value whose type the torch dialect does not have, and the reason."""
    table, found = TypeTable(), []
    for value in values:
        try:
            table.word(value.type())
        except KeyError as error:
            found.append((f"%{value.debugName()}", str(error.args[0])))
    return found
