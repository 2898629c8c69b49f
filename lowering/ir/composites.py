"""Composites as calls of their decompositions, for consumers that know none of their names."""

from __future__ import annotations

from typing import Any

from lowering.ir import mlir

OP = "stablehlo.composite"
_TO_CALLS = "builtin.module(func.func(stablehlo-legalize-composite-to-call))"


def to_calls(module: Any) -> None:
    """Replace each composite of a StableHLO module of either build by a call of its decomposition, in place."""
    if has_composites(module):
        mlir.run(module, _TO_CALLS, "composites")


def inline(module: Any) -> None:
    """Replace each composite of a StableHLO module of torch_mlir's build by the ops of its decomposition, in place."""
    if has_composites(module):
        mlir.run(module, mlir.join_pipelines(_TO_CALLS, "builtin.module(inline,symbol-dce)"), "composites")


def expand(module: Any, op: Any) -> None:
    """Replace one composite of a module of either build by the ops of its decomposition, in place."""
    ir = mlir.get_ir(module.context)
    name = op.attributes["decomposition"].value
    body = next(each.operation for each in module.body.operations if each.operation.attributes["sym_name"].value == name)
    block = body.regions[0].blocks[0]
    mapping = dict(zip(block.arguments, op.operands, strict=True))
    *ops, terminator = [each.operation for each in block.operations]
    with ir.InsertionPoint(op):
        for each in ops:
            clone(each, mapping)
    for old, new in zip(op.results, terminator.operands, strict=True):
        old.replace_all_uses_with(mapping[new])
    op.erase()


def clone(operation: Any, mapping: dict[Any, Any]) -> None:
    """Clone an op at the insertion point, on the mapped operands, and map its results."""
    created = operation.clone()
    for op in (created, *mlir.walk_operations(created)):
        for position, operand in enumerate(op.operands):
            if operand in mapping:
                op.operands[position] = mapping[operand]
    mapping.update(zip(operation.results, created.results, strict=True))


def has_composites(module: Any) -> bool:
    """Return whether the module holds a composite."""
    return any(op.name == OP for op in mlir.walk_operations(module))


def to_own_calls(module: Any) -> dict[str, dict[str, Any]]:
    """Replace each composite by a call of its own copy of its decomposition, in place, and return the attributes of each by function.

    A pass may then refine the types of each copy for its call.
    """
    ir = mlir.get_ir(module.context)
    functions = {op.operation.attributes["sym_name"].value: op.operation for op in module.body.operations}
    kept: dict[str, dict[str, Any]] = {}
    found = [op for op in mlir.walk_operations(module) if op.name == OP]
    decompositions = {op.attributes["decomposition"].value for op in found}
    with module.context:
        for number, op in enumerate(found):
            body = functions[op.attributes["decomposition"].value].clone(ip=ir.InsertionPoint(module.body))
            symbol = f"composite.{number}"
            body.attributes["sym_name"] = ir.StringAttr.get(symbol)
            kept[symbol] = {name: op.attributes[name] for name in ("name", "composite_attributes", "version") if name in op.attributes}
            mlir.replace(op, "func.call", {"callee": ir.FlatSymbolRefAttr.get(symbol)})
        for symbol in decompositions:
            functions[symbol].erase()
    return kept


def from_own_calls(module: Any, kept: dict[str, dict[str, Any]]) -> None:
    """Replace the calls of `to_own_calls` by composites, in place. Equal decompositions become one."""
    ir = mlir.get_ir(module.context)
    functions = {op.operation.attributes["sym_name"].value: op.operation for op in module.body.operations}
    made: dict[str, str] = {}
    with module.context:
        for op in [op for op in mlir.walk_operations(module) if op.name == "func.call" and op.attributes["callee"].value in kept]:
            symbol = op.attributes["callee"].value
            body = functions[symbol]
            text = body.get_asm(large_elements_limit=None).replace(f"@{symbol}", "@")
            if text not in made:
                made[text] = f"{kept[symbol]['name'].value}.impl_{len(made)}"
                body.attributes["sym_name"] = ir.StringAttr.get(made[text])
            else:
                body.erase()
            mlir.replace(op, OP, {**kept[symbol], "decomposition": ir.FlatSymbolRefAttr.get(made[text])})
