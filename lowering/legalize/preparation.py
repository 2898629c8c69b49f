"""Two rewrites that torch-mlir's passes take quadratic time for, done in linear: they move what stands behind at every step."""

from __future__ import annotations

from typing import Any

from torch_mlir import ir

from lowering.ir import mlir
from lowering.torch_dialect.importer import ENTRY

TO_BUILTIN = "torch_c.to_builtin_tensor"


def open_assumptions(module: Any) -> None:
    """Put the ops of every `shape.assuming` in its place. What it assumes is not looked at: the caller has removed the constraints."""
    for operation in list(mlir.operations(module)):
        if operation.name != "shape.assuming":
            continue
        *inside, yielded = operation.regions[0].blocks[0].operations
        for inner in inside:
            inner.operation.move_before(operation)
        for result, value in zip(operation.results, list(yielded.operands), strict=True):
            result.replace_all_uses_with(value)
        operation.erase()


def convert_arguments(module: Any) -> None:
    """Arguments of the entry that are only used as builtin tensors become such; others are left to torch-mlir's own conversion."""
    entry = next((function for function in module.body.operations if function.attributes["sym_name"].value == ENTRY), None)
    if entry is None or not entry.regions[0].blocks:
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
