"""Custom ops in a TorchScript graph: their results carry their dims, and what they write is a copy of their own."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch.fx import GraphModule, Node

from lowering.custom import libraries
from lowering.custom.naming import DIMS, dims_text, is_custom
from lowering.errors import Problem
from lowering.fx import exported
from lowering.ir import source_lines

if TYPE_CHECKING:
    from lowering.torchscript.graph import ScriptGraph

Value: TypeAlias = torch._C.Value


@dataclass(frozen=True)
class Annotation:
    """names: the trace's symbols in the model's words; kept: ops of PyTorch's own that stay whole (see `is_custom`)."""

    names: exported.Names = field(default_factory=dict)
    kept: Collection[str] = ()

    def mark(self, created: torch._C.Node, op: torch._ops.OpOverload, values: Iterable[Any]) -> None:
        """Write the dims of a custom op's results into its node: what no later level could know."""
        if is_custom(op._schema.name, op._schema.overload_name, self.kept):
            shapes = [exported.dims_of(getattr(leaf, "shape", ()), self.names) for leaf in leaves(values) if leaf is not None]
            created.s_(DIMS, dims_text(shapes))


UNNAMED = Annotation()  # symbols stay torch's, and nothing is kept

_FORMS = ("TensorType", "IntType", "SymIntType", "FloatType", "BoolType", "StringType")
_SCALAR_FORMS = (*_FORMS, "NumberType", "ScalarTypeType", "DeviceObjType", "LayoutType", "MemoryFormatType")


def refusals(module: GraphModule, kept: Collection[str] = ()) -> list[Problem]:
    """Every argument of a custom op that has no attribute form, with the op, its library and the user's line."""
    found = []
    for node in module.graph.nodes:
        op = node.args[0] if node.target is torch.ops.higher_order.auto_functionalized else node.target
        if node.op != "call_function" or not isinstance(op, torch._ops.OpOverload):
            continue
        if not is_custom(op._schema.name, op._schema.overload_name, kept):
            continue
        positional = node.args if op is node.target else ()
        for position, formal in enumerate(op._schema.arguments):
            given = positional[position] if position < len(positional) else node.kwargs.get(formal.name, formal.default_value)
            if given is not None and not _has_form(formal.real_type, given):
                name, line = op._schema.name, source_lines.of_fx(node)
                cause = f"argument '{formal.name}' of type {formal.real_type} has no attribute form" + (f", at {line}" if line else "")
                fix = "pass it as a tensor, number or string, or leave it out if it is optional"
                found.append(Problem(f"op '{name}' ({libraries.owner(name)})", cause, fix))
    return found


def _has_form(type_: Any, given: Any) -> bool:
    while type_.kind() == "OptionalType":
        type_ = type_.getElementType()
    if type_.kind() == "ListType":
        element = type_.getElementType()
        return (element.getElementType() if element.kind() == "OptionalType" else element).kind() in _FORMS
    return type_.kind() in _SCALAR_FORMS and not isinstance(given, complex)


def mutating(graph: ScriptGraph, node: Node) -> list[Any]:
    """`auto_functionalized(op, **arguments)`: the op on copies of what it writes; its results (None if it has none), then the copies."""
    op: torch._ops.OpOverload = node.args[0]  # type: ignore[assignment]
    returned = len(op._schema.returns)
    values = list(node.meta["val"])
    arguments: list[Value] = []
    written: list[Any] = []
    for formal in op._schema.arguments:
        given = node.kwargs.get(formal.name, formal.default_value)
        is_written = formal.alias_info is not None and formal.alias_info.is_write
        if not is_written or given is None:
            arguments.append(graph.argument(given, formal.type))
            written += [None] if is_written else []
        elif isinstance(given, list | tuple):
            copies = [_copy(graph, node, each) for each in given]
            arguments.append(graph.list_of(copies, formal.type.getElementType()))
            written.append(copies)
        else:
            written.append(_copy(graph, node, given))
            arguments.append(written[-1])
    results = graph.results_of(node, op, arguments, values[:returned], values[max(returned, 1) :])
    return [*(results or [None]), *written]


def _copy(graph: ScriptGraph, node: Node, given: Any) -> Value:
    created = graph.graph.create("aten::clone", [graph.scalar(given), graph.constant(None)], 1)
    graph.insert(node, created)
    created.output().setType(graph.scalar(given).type())
    return created.output()


def leaves(values: Iterable[Any]) -> Sequence[Any]:
    """`values` with lists replaced by their elements."""
    return [leaf for value in values for leaf in (value if isinstance(value, list | tuple) else [value])]
