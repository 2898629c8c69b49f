"""Rewrite a whole module before and between torch-mlir's passes, which do this in quadratic time, wrongly, or too early."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from torch_mlir import ir

from lowering.ir import mlir

TO_BUILTIN = "torch_c.to_builtin_tensor"
FROM_BUILTIN = "torch_c.from_builtin_tensor"
_INT8 = re.compile(r"(?<=[<x])i8>$")


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


def convert_literals(module: Any) -> None:
    """Replace each literal of uint8 by a constant of StableHLO.

    Canonicalization makes such literals of constants, and torch-mlir would convert them to int8.
    """
    for operation in list(mlir.walk_operations(module)):
        if operation.name != "torch.vtensor.literal" or ",ui8>" not in str(operation.results[0].type):
            continue
        value = operation.attributes["value"]
        with operation.context, operation.location, ir.InsertionPoint(operation):
            constant = ir.Operation.create("stablehlo.constant", results=[value.type], attributes={"value": value})
            converted = ir.Operation.create(FROM_BUILTIN, operands=[constant.result], results=[operation.results[0].type])
        operation.results[0].replace_all_uses_with(converted.result)
        operation.erase()


def keep_unsigned(module: Any) -> None:
    """Give values that `scf` ops carry for tensors of uint8 that type again. torch-mlir's control flow carries them as int8."""
    with module.context:
        operations = list(mlir.walk_operations(module))
        for operation in operations:
            if operation.name in (TO_BUILTIN, FROM_BUILTIN):
                values = operation.operands[0], operation.results[0]
                builtin, of_torch = reversed(values) if operation.name == TO_BUILTIN else values
                if str(of_torch.type).endswith(",ui8>"):
                    _make_unsigned(builtin)
        carriers = [operation for operation in operations if operation.name in _CARRIED]
        while sum(_carry_unsigned(operation) for operation in carriers):
            pass


def _make_unsigned(value: Any) -> bool:
    """Give a tensor of int8 the type uint8. Return whether it was one of int8."""
    if not _INT8.search(str(value.type)):
        return False
    value.set_type(ir.Type.parse(_INT8.sub("ui8>", str(value.type))))
    return True


def _carry_unsigned(operation: Any) -> int:
    """Make all values unsigned that an `scf` op carries as one with an unsigned value. Return the number of types changed."""
    blocks = [block for region in operation.regions for block in region.blocks]
    ends = [list(list(block.operations)[-1].operation.operands) for block in blocks]
    groups = _CARRIED[operation.name](operation, [list(block.arguments) for block in blocks], ends)
    carried = (values for group in groups for values in zip(*group, strict=True))
    unsigned = [value for values in carried if any(str(value.type).endswith("ui8>") for value in values) for value in values]
    return sum(map(_make_unsigned, unsigned))


# By op: the lists of values that it carries from one to the next, of its operands and results, arguments and last operands of its blocks.
_CARRIED: dict[str, Callable[[Any, Any, Any], Any]] = {
    "scf.while": lambda op, arguments, ends: ((op.operands, arguments[0], ends[1]), (ends[0][1:], arguments[1], op.results)),
    "scf.for": lambda op, arguments, ends: ((list(op.operands)[3:], arguments[0][1:], ends[0], op.results),),
    "scf.if": lambda op, arguments, ends: ((op.results, *ends),),
}


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
