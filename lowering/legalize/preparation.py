"""Rewrite a whole module before and between torch-mlir's passes, which do this in quadratic time, wrongly, or too early."""

from __future__ import annotations

from typing import Any

from torch_mlir import ir

from lowering.ir import mlir

TO_BUILTIN = "torch_c.to_builtin_tensor"


def open_assumptions(module: Any) -> None:
    """Replace every `shape.assuming` by the ops in it; the caller has removed its constraints.

    torch-mlir's own pass takes quadratic time.
    """
    for operation in list(mlir.walk_operations(module)):
        if operation.name != "shape.assuming":
            continue
        *inside, yielded = operation.regions[0].blocks[0].operations
        for inner in inside:
            inner.operation.move_before(operation)
        for result, value in zip(operation.results, list(yielded.operands), strict=True):
            result.replace_all_uses_with(value)
        operation.erase()


def convert_arguments(module: Any) -> None:
    """Give arguments of the entry that are only used as builtin tensors that type, in linear time.

    Leave others to torch-mlir's conversion.
    """
    entry = mlir.find_entry(module)
    if entry is None:
        return
    arguments = entry.regions[0].blocks[0].arguments
    for argument in arguments:
        users = list({use.owner.operation for use in argument.uses})
        types = {user.results[0].type for user in users if user.name == TO_BUILTIN}
        if len(types) != 1 or any(user.name != TO_BUILTIN for user in users):
            continue
        for user in users:
            user.results[0].replace_all_uses_with(argument)
            user.erase()
        argument.set_type(types.pop())
    with module.context:
        given = ir.FunctionType(ir.TypeAttr(entry.attributes["function_type"]).value).results
        entry.attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get([argument.type for argument in arguments], given))


def mark_unsigned(module: Any) -> None:
    """Mark comparisons of unsigned integers and bools as such: torch-mlir calls all of them signed, which XLA refuses."""
    for op in mlir.walk_operations(module):
        if op.name == "stablehlo.compare" and "compare_type" in op.attributes:
            element = str(ir.RankedTensorType(op.operands[0].type).element_type)
            if element.startswith("ui") or element == "i1":
                op.attributes["compare_type"] = ir.Attribute.parse("#stablehlo<comparison_type UNSIGNED>", module.context)
