"""Custom ops in a TorchScript graph: arguments that it cannot express, and ops that write to their arguments."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, TypeAlias

import torch
from torch.fx import GraphModule, Node

from lowering.custom import libraries
from lowering.custom.naming import is_custom
from lowering.errors import Problem
from lowering.ir import source_lines
from lowering.torchscript.builder import Builder

Value: TypeAlias = torch._C.Value


_FORMS = ("TensorType", "IntType", "SymIntType", "FloatType", "BoolType", "StringType")
_SCALAR_FORMS = (*_FORMS, "NumberType", "ScalarTypeType", "DeviceObjType", "LayoutType", "MemoryFormatType")


def find_problems(module: GraphModule, kept: Collection[str] = ()) -> list[Problem]:
    """Report every argument of a custom op that cannot be an attribute, with the op, its library and the user line."""
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
                name, line = op._schema.name, source_lines.find_fx_line(node)
                cause = f"argument '{formal.name}' of type {formal.real_type} has no attribute form" + (f", at {line}" if line else "")
                fix = "pass it as a tensor, number or string, or leave it out if it is optional"
                found.append(Problem(f"op '{name}' ({libraries.describe_owner(name)})", cause, fix))
    return found


def _has_form(type_: Any, given: Any) -> bool:
    while type_.kind() == "OptionalType":
        type_ = type_.getElementType()
    if type_.kind() == "ListType":
        element = type_.getElementType()
        return (element.getElementType() if element.kind() == "OptionalType" else element).kind() in _FORMS
    if type_.kind() == "AnyType":  # the name of a process group
        return isinstance(given, str)
    return type_.kind() in _SCALAR_FORMS and not isinstance(given, complex)


def convert_mutating_op(builder: Builder, node: Node) -> list[Any]:
    """Convert `auto_functionalized(op, **arguments)` to the op on copies of the arguments that it writes.

    Return its results (None if it has none), then the copies.
    """
    op: torch._ops.OpOverload = node.args[0]  # type: ignore[assignment]
    returned = len(op._schema.returns)
    values = list(node.meta["val"])
    arguments: list[Value] = []
    written: list[Any] = []
    for formal in op._schema.arguments:
        given = node.kwargs.get(formal.name, formal.default_value)
        if not formal.is_write or given is None:
            arguments.append(builder.argument(given, formal.type))
            written += [None] if formal.is_write else []
        elif isinstance(given, list | tuple):
            copies = [_copy(builder, node, each) for each in given]
            arguments.append(builder.insert_list(copies, formal.type.getElementType()))
            written.append(copies)
        else:
            written.append(_copy(builder, node, given))
            arguments.append(written[-1])
    results = builder.insert_call(node, op, arguments, values[:returned], values[max(returned, 1) :])
    return [*(results or [None]), *written]


def _copy(builder: Builder, node: Node, given: Any) -> Value:
    created = builder.graph.create("aten::clone", [builder.scalar(given), builder.constant(None)], 1)
    builder.insert(node, created)
    created.output().setType(builder.scalar(given).type())
    return created.output()
