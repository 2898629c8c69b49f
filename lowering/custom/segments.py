"""Execution of programs with an op whose result size depends on data: XLA runs the program up to the op, PyTorch the op, and XLA the rest.

XLA compiles static shapes only. Everything except the op itself is still computed by XLA.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import Any

import torch

from lowering.custom import bridge
from lowering.errors import Problem, StageFailed
from lowering.ir import mlir

Run = Callable[[str | bytes, Sequence[torch.Tensor]], tuple[torch.Tensor, ...]]



def run(module: str | bytes, arguments: Sequence[torch.Tensor], whole: Run, context: Any) -> tuple[torch.Tensor, ...]:
    """Run `module` on `arguments`. whole: runs a program whose sizes all follow from its arguments' shapes."""
    if not bridge.may_call(module):
        return whole(module, arguments)
    rest = mlir.parse(module, context)
    given = list(arguments)
    while (call := _find_open_call(rest)) is not None:
        operands = whole(_cut_head(rest), given)
        given += invoke(call.attributes["backend_config"], operands)
        _make_arguments(rest, call)
        module = _serialize(rest)
    return whole(module, given)


def invoke(config: Any, operands: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """Run the op of a call's backend_config in PyTorch.

    Return its results, then the new values of written arguments. Raises StageFailed.
    """
    name, overload = config["op"].value, config["overload"].value
    namespace, _, rest = name.partition("::")
    arguments, written = [], []
    named: dict[str, Any] = {}
    try:
        op = getattr(getattr(getattr(torch.ops, namespace), rest), overload or "default")
        for formal in op._schema.arguments:
            value = _decode(config["arguments"][formal.name], formal.real_type, operands)
            if formal.is_write and value is not None:
                value = [each.clone() for each in value] if isinstance(value, list) else value.clone()
                written += value if isinstance(value, list) else [value]
            if formal.kwarg_only:
                named[formal.name] = value
            else:
                arguments.append(value)
        with torch.no_grad():
            returned = op(*arguments, **named)
    except Exception as error:
        raise StageFailed(Problem(f"op '{name}'", f"raised {type(error).__name__}: {error}"), str(error)) from error
    results = returned if isinstance(returned, list | tuple) else [] if returned is None else [returned]
    return [leaf for result in results for leaf in (result if isinstance(result, list | tuple) else [result])] + written


def _decode(entry: Any, type_: Any, operands: Sequence[torch.Tensor]) -> Any:
    """Decode the value of an argument from the form that `encoding` writes."""
    while type_.kind() == "OptionalType":
        type_ = type_.getElementType()
    if "none" in entry:
        return None
    if "operand" in entry:
        return _read_number(operands[entry["operand"].value], type_)
    if "operands" in entry:
        return [None if number < 0 else _read_number(operands[number], type_.getElementType()) for number in entry["operands"]]
    value = entry["value"]
    if type_.kind() == "ListType":
        element = type_.getElementType().kind()
        if element == "StringType":
            return [value[str(index)].value for index in range(len(value))]
        return [bool(each) if element == "BoolType" else each for each in value]
    if type_.kind() == "ScalarTypeType":
        return getattr(torch, value.value)
    return torch.device(value.value) if type_.kind() == "DeviceObjType" else value.value


def _read_number(operand: torch.Tensor, type_: Any) -> Any:
    while type_.kind() == "OptionalType":
        type_ = type_.getElementType()
    return operand if type_.kind() == "TensorType" else operand.item()


def _find_open_call(module: Any) -> Any:
    """Return the first call whose result sizes are not given by operands, or None."""
    for operation in mlir.find_entry(module).regions[0].blocks[0].operations:
        if bridge.is_call(operation.operation) and bridge.is_open(operation.operation):
            return operation.operation
    return None


def _cut_head(module: Any) -> bytes:
    """Return the program up to its first open call. Its results are the operands of that call."""
    from jaxlib.mlir import ir

    part = mlir.copy(module)
    call = _find_open_call(part)
    function = mlir.find_entry(part)
    block = function.regions[0].blocks[0]
    operands = list(call.operands)
    for operation in reversed(list(block.operations)):
        is_call = operation.operation == call
        operation.operation.erase()
        if is_call:
            break
    with part.context, ir.Location.unknown(), ir.InsertionPoint(block):
        ir.Operation.create("func.return", operands=operands)
        _retype(function, [operand.type for operand in operands])
    return _serialize(part)


def _make_arguments(module: Any, call: Any) -> None:
    """Turn the results of `call` into additional arguments of the program."""
    from jaxlib.mlir import ir

    function = mlir.find_entry(module)
    block = function.regions[0].blocks[0]
    with module.context, ir.Location.unknown():
        for result in call.results:
            result.replace_all_uses_with(block.add_argument(result.type, ir.Location.unknown()))
        call.erase()
        _retype(function, [operand.type for operand in list(block.operations)[-1].operands])


def _retype(function: Any, results: list[Any]) -> None:
    from jaxlib.mlir import ir

    arguments = [argument.type for argument in function.regions[0].blocks[0].arguments]
    function.attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get(arguments, results))
    for name in ("arg_attrs", "res_attrs"):
        if name in function.attributes:
            del function.attributes[name]


def _serialize(module: Any) -> bytes:
    stream = io.BytesIO()
    module.operation.write_bytecode(stream)
    return stream.getvalue()
