"""Protection of `torch.operator`s in torch-mlir's pipelines, which do not support them: each becomes a call of its own function.

At the torch level they are hidden (calls with the same operands) and restored afterwards. For the conversion to StableHLO each becomes a
call
that takes only tensors and dynamic sizes, and whose function holds the rest: the future custom call (see `legalize.custom_calls`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch_mlir import ir

from lowering.custom import encoding, libraries
from lowering.custom.naming import BUILTIN, DIMS, join_name, split_name
from lowering.errors import Problem
from lowering.ir import mlir
from lowering.model import Model

OPERATOR = "torch.operator"
HELD = "custom_call"  # attribute of a stand-in function: the custom call that its call will become


@contextmanager
def hide(module: Any, kept: Collection[str] = ()) -> Iterator[None]:
    """Replace every `torch.operator` of a custom op, or of a name in `kept`, with a call of a private function inside the block."""
    names: dict[str, dict[str, ir.Attribute]] = {}
    concerned = [operator for operator in _list_operators(module) if _is_custom(operator) or operator.attributes["name"].value in kept]
    for number, operator in enumerate(concerned):
        symbol = f"operator.{number}"
        names[symbol] = {attribute.name: attribute.attr for attribute in _list_attributes(operator)}
        _insert_stand_in(module, symbol, operator, list(operator.operands), {})
    yield
    for call in [op for op in mlir.walk_operations(module) if op.name == "func.call" and _read_callee(op) in names]:
        with ir.InsertionPoint(call), call.location:
            created = ir.Operation.create(OPERATOR, results=[result.type for result in call.results], operands=list(call.operands),
                                          attributes=names[_read_callee(call)])
        _replace(call, created)
    _erase_functions(module, names)


def outline(module: Any, model: Model | None) -> list[Problem]:
    """Convert every `torch.operator` to a call that StableHLO's pipeline can convert.

    Return the problems of those that cannot be custom calls.
    """
    problems: list[Problem] = []
    with module.context, ir.Location.unknown():
        for number, operator in enumerate(_list_operators(module)):
            problems += _outline_operator(module, f"{HELD}.{number}", operator, model)
    return problems


def list_unused(module: Any, model: Model | None) -> list[str]:
    """List the rows of `custom_calls` that match no call of an outlined module."""
    functions = [operation.operation for operation in module.body.operations if HELD in operation.operation.attributes]
    called = {function.attributes[HELD]["config"]["op"].value for function in functions}
    return [key for key in (model.custom_calls if model else ()) if split_name(key)[0] not in called]


def is_outlined(module: Any) -> bool:
    """Return whether the module holds outlined custom calls."""
    return any(HELD in operation.operation.attributes for operation in module.body.operations)


def _outline_operator(module: Any, symbol: str, operator: Any, model: Model | None) -> list[Problem]:
    name, overload = split_name(operator.attributes["name"].value)
    place = f"op '{name}' ({libraries.describe_owner(name)})"
    try:
        schema = torch._C._get_schema(name, overload)
    except RuntimeError:
        return [libraries.report_unknown_op(name, model)]
    if not _is_custom(operator):
        return [Problem(f"{operator.attributes['name'].value} at {operator.location}", "is not an op of the torch dialect",
                        f"decompose it, or lower it to a custom call: custom_calls: {{{join_name(name, overload)}: {{}}}}")]
    call = encoding.encode(schema, operator)
    if not call.problems:
        rows = model.custom_calls if model else {}
        target = next((rows[key].target for key in (join_name(name, overload), join_name(name)) if key in rows), None) or join_name(name,
                                                                                                                                    overload)
        _insert_stand_in(module, symbol, operator, call.operands, {HELD: call.attribute(target, operator)})
    return [Problem(place, problem.cause, problem.fix) for problem in call.problems]


def _list_operators(module: Any) -> list[Any]:
    return [operation for operation in mlir.walk_operations(module) if operation.name == OPERATOR]


def _is_custom(operator: Any) -> bool:
    return DIMS in operator.attributes or split_name(operator.attributes["name"].value)[0].partition("::")[0] not in BUILTIN


def _list_attributes(operation: Any) -> Sequence[Any]:
    return [operation.attributes[index] for index in range(len(operation.attributes))]


def _read_callee(call: Any) -> str:
    return str(call.attributes["callee"].value)


def _insert_stand_in(module: Any, symbol: str, operator: Any, operands: list[Any], attributes: dict[str, ir.Attribute]) -> None:
    """Replace the operator with a call of a new private function `symbol`, declared with `attributes`."""
    results = [result.type for result in operator.results]
    with module.context, ir.Location.unknown():
        type_ = ir.TypeAttr.get(ir.FunctionType.get([operand.type for operand in operands], results))
        declared = {"sym_name": ir.StringAttr.get(symbol), "function_type": type_, "sym_visibility": ir.StringAttr.get("private")}
        ir.Operation.create("func.func", attributes=declared | attributes, regions=1, ip=ir.InsertionPoint(module.body))
    with ir.InsertionPoint(operator), operator.location:
        callee = {"callee": ir.FlatSymbolRefAttr.get(symbol)}
        called = ir.Operation.create("func.call", results=results, operands=operands, attributes=callee)
    _replace(operator, called)


def _replace(operation: Any, by: Any) -> None:
    for old, new in zip(operation.results, by.results, strict=True):
        old.replace_all_uses_with(new)
    operation.erase()


def _erase_functions(module: Any, symbols: Mapping[str, Any]) -> None:
    for operation in list(module.body.operations):
        if operation.operation.name == "func.func" and operation.operation.attributes["sym_name"].value in symbols:
            operation.operation.erase()
