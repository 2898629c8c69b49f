"""Convert an FX graph to a TorchScript graph, node by node. Every schema argument is filled in, and symbolic dims are left `*`."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

import sympy
import torch
from torch.fx import GraphModule, Node

from lowering.errors import Problem
from lowering.ir import source_lines
from lowering.ops.symbolic import find_kind
from lowering.torchscript import control, numbers, text
from lowering.torchscript.annotation import UNNAMED, Annotation
from lowering.torchscript.builder import Builder
from lowering.torchscript.custom_ops import convert_mutating_op

Value: TypeAlias = torch._C.Value

HIGHER_ORDER: dict[str, Callable[[Builder, Node], Any]] = {**control.RULES, "auto_functionalized": convert_mutating_op}

# Checks without a result. The signature's ranges and guards cover the checks of tracing; failing linear algebra gives NaN at lower levels.
CHECKS = {
    torch.ops.aten._assert_scalar.default,
    torch.ops.aten._assert_async.msg,
    torch.ops.aten._assert_tensor_metadata.default,
    torch.ops.aten._linalg_check_errors.default,
    torch.ops.aten.sym_constrain_range.default,
    torch.ops.aten.sym_constrain_range_for_size.default,
}


def find_problems(module: GraphModule) -> list[Problem]:
    """Report every node that TorchScript cannot express, with its user line. Bodies of higher-order ops are included."""
    found = []
    for node in module.graph.nodes:
        held = getattr(module, str(node.target), None) if node.op == "get_attr" else None
        if isinstance(held, GraphModule):
            found += find_problems(held)
        elif node.op == "get_attr":
            found.append(_report(node, f"attribute '{node.target}'", "is a tensor that torch.export did not lift to an argument"))
        elif node.op == "call_function" and not _is_expressible(node.target):
            found.append(_report(node, _name_target(node.target), _explain(node.target)))
    return found


def _is_expressible(target: Any) -> bool:
    if isinstance(target, torch._ops.HigherOrderOperator):
        return target.name() in HIGHER_ORDER
    is_op = isinstance(target, torch._ops.OpOverload)
    return is_op or target is operator.getitem or target in numbers.RULES or find_kind(target) is not None


def _explain(target: Any) -> str:
    if isinstance(target, torch._ops.HigherOrderOperator):
        return f"this higher-order op has no TorchScript form; supported: {', '.join(sorted(HIGHER_ORDER))}"
    return "has no schema and no row in lowering/ops/symbolic.py"


def _name_target(target: Any) -> str:
    """Return the name of a call's target: an op by torch's name, a function by its module and name."""
    is_op = isinstance(target, torch._ops.OpOverload | torch._ops.HigherOrderOperator)
    named = callable(target) and hasattr(target, "__qualname__") and not is_op
    return f"{target.__module__}.{target.__qualname__}" if named else str(target)


def _report(node: Node, what: str, cause: str) -> Problem:
    line = source_lines.find_fx_line(node)
    return Problem(f"{what} at {line}" if line else what, cause)


def build(module: GraphModule, annotation: Annotation = UNNAMED, fixed: Mapping[sympy.Expr, int] = MappingProxyType({})) -> torch._C.Graph:
    """Build the TorchScript graph of an FX graph whose placeholders hold both weights and inputs.

    annotation: for custom ops. fixed: expressions of sizes that have one value, which types then state.
    """
    builder = Builder(module, annotation, _convert, fixed)
    for node in module.graph.nodes:
        if node.op == "placeholder":
            builder.add_argument(node)
    for result in builder.body(module):
        builder.graph.registerOutput(result)
    if len(list(builder.graph.outputs())) != 1:
        builder.graph.makeMultiOutputIntoTuple()
    text.name_values(builder.graph)
    return builder.graph


def _convert(builder: Builder, node: Node) -> Any:
    """Convert an FX call to a value or a list of values."""
    target: Any = node.target
    if target in CHECKS:
        return None
    if isinstance(target, torch._ops.HigherOrderOperator):
        return HIGHER_ORDER[target.name()](builder, node)
    if target is operator.getitem:
        return builder.get_value(node.args[0])[node.args[1]]
    if target in numbers.RULES:
        return numbers.RULES[target](builder, node)
    if (kind := find_kind(target)) is not None:
        return builder.call(node, kind, [builder.scalar(argument) for argument in node.args], [node.meta["val"]])[0]
    return _call_op(builder, node, target)


def _call_op(builder: Builder, node: Node, op: torch._ops.OpOverload) -> Any:
    arguments = []
    for position, formal in enumerate(op._schema.arguments):
        given = node.args[position] if position < len(node.args) else node.kwargs.get(formal.name, formal.default_value)
        if isinstance(given, complex) and formal.type.kind() == "TensorType":
            arguments.append(_insert_complex(builder, given, node))
        else:
            arguments.append(builder.argument(given, formal.type))
    value = node.meta.get("val")
    single = len(op._schema.returns) == 1
    results = builder.insert_call(node, op, arguments, [value] if single else list(value or ()))
    return results[0] if single else results


def _insert_complex(builder: Builder, given: complex, node: Node) -> Value:
    """Insert a complex number as a 0-d tensor of the result's dtype, the only form that it has below this level."""
    dtype = node.meta["val"].dtype
    parts = [_insert_full(builder, part, torch.float64 if dtype is torch.complex128 else torch.float32)
             for part in (given.real, given.imag)]
    made = builder.graph.create("aten::complex", parts, 1)
    builder.insert(node, made)
    made.output().setType(torch._C.TensorType.get().with_dtype(dtype).with_sizes([]))  # type: ignore[attr-defined]
    return made.output()


def _insert_full(builder: Builder, given: float, dtype: torch.dtype) -> Value:
    """Insert a number as a 0-d tensor."""
    settings = [builder.constant(setting) for setting in (dtype, None, None, None)]
    made = builder.graph.create("aten::full", [builder.insert_list([], torch._C.IntType.get()), builder.constant(given), *settings], 1)
    builder.graph.insertNode(made)
    made.output().setType(torch._C.TensorType.get().with_dtype(dtype).with_sizes([]))  # type: ignore[attr-defined]
    return made.output()
