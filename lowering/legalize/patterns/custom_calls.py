"""Calls of the stand-ins of custom ops (see `custom.operators`) as `stablehlo.custom_call`s whose result shapes are computed in the IR."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch_mlir import ir

from lowering.custom import bridge, marks
from lowering.custom.naming import DIMS, parse_dims
from lowering.custom.operators import HELD
from lowering.legalize.emitter import Origin
from lowering.legalize.patterns import collectives
from lowering.legalize.rewriter import Pattern, Rewrite
from lowering.sizes import normal
from lowering.sizes.expression import Expression, Shape
from lowering.sizes.parsing import Unknown


def replace(call: Any, rewrite: Rewrite) -> None:
    """Replace `call` by the custom call.

    If the dims of all results follow from sizes, they become operands (indices_of_shape_operands). A dim that only data determines stays
    dynamic in the result type.
    """
    held = _read_held(rewrite).get(call.attributes["callee"].value)
    if held is None:
        return
    if held["config"]["op"].value in marks.NAMES:
        _mark(call, held, rewrite)
        return
    types = [_tensor_type(result.type) for result in call.results]
    shapes = _shapes(held, types, rewrite.symbols)
    if held["config"]["op"].value in collectives.OPS:
        _replace_collective(call, held, shapes[0], rewrite)
        return
    operands = list(call.operands)
    attributes: dict[str, ir.Attribute] = {
        "call_target_name": held["target"],
        "has_side_effect": held["has_side_effect"],
        "backend_config": held["config"],
        "api_version": ir.IntegerAttr.get(ir.IntegerType.get_signless(32), bridge.TYPED_FFI),
    }
    aliases = _aliases(held, operands, types)
    known = [shape for shape in shapes if shape is not None and all(isinstance(dim, Expression) for dim in shape)]
    if len(known) == len(types) and any(not type_.has_static_shape for type_ in types):
        attributes[bridge.SHAPES] = _dense(range(len(operands), len(operands) + len(types)))
        operands += [rewrite.emitter.vector(shape) for shape in known]  # type: ignore[arg-type]
    attributes |= {
        "operand_layouts": ir.ArrayAttr.get([_layout(operand.type) for operand in operands]),
        "result_layouts": ir.ArrayAttr.get([_layout(type_) for type_ in types]),
    }
    if aliases:
        attributes["output_operand_aliases"] = ir.ArrayAttr.get(aliases)
    with ir.InsertionPoint(call), call.location:
        created = ir.Operation.create("stablehlo.custom_call", results=types, operands=operands, attributes=attributes)
    for old, new, shape in zip(call.results, created.results, shapes, strict=True):
        if shape is not None:
            rewrite.known.learn_dims(new, _read(new, shape, rewrite))
        rewrite.replace(old, new)


def _replace_collective(call: Any, held: Any, shape: tuple[Expression | str, ...] | None, rewrite: Rewrite) -> None:
    def learn(value: Any) -> None:
        if shape is not None:
            rewrite.known.learn_dims(value, _read(value, shape, rewrite))

    collectives.replace(call, held, rewrite, learn)


def _mark(call: Any, held: Any, rewrite: Rewrite) -> None:
    """Replace `call` by a mark of a composite, which `legalize.composites` finds by its target. It keeps the dims of its result."""
    attributes = {
        "call_target_name": ir.StringAttr.get(held["config"]["op"].value), "backend_config": held["config"], DIMS: held[DIMS],
        "api_version": ir.IntegerAttr.get(ir.IntegerType.get_signless(32), bridge.TYPED_FFI),
    }  # fmt: skip
    operand = rewrite.data(call.operands[0])
    with ir.InsertionPoint(call), call.location:
        created = ir.Operation.create("stablehlo.custom_call", results=[operand.type], operands=[operand], attributes=attributes)
    rewrite.known.learn_dims(created.result, rewrite.known.dims(operand))
    rewrite.replace(call.results[0], created.result)


def erase_stand_ins(module: Any) -> None:
    for operation in list(module.body.operations):
        if HELD in operation.operation.attributes:
            operation.operation.erase()


def list_sized_by_data(module: Any) -> list[tuple[str, str]]:
    """Return (op, location) of each custom call whose result sizes do not follow from its operands."""
    return [(call.attributes["backend_config"]["op"].value, str(call.location)) for call in bridge.list_calls(module)
            if bridge.is_open(call)]


def _read_held(rewrite: Rewrite) -> Mapping[str, Any]:
    module = rewrite.function.operation.parent
    functions = [op.operation for op in module.regions[0].blocks[0].operations]
    return {function.attributes["sym_name"].value: function.attributes[HELD] for function in functions if HELD in function.attributes}


def _shapes(held: Any, types: list[Any], symbols: Mapping[str, Expression]) -> list[tuple[Expression | str, ...] | None]:
    """Return the dims of each result: text where a symbol is in no input's shape, None for a result of unknown dims."""
    if DIMS not in held:
        return [None] * len(types)
    return [tuple(_dim(dim, symbols) for dim in dims) for dims in parse_dims(held[DIMS].value)]


def _dim(dim: int | str, symbols: Mapping[str, Expression]) -> Expression | str:
    atoms = dict(symbols)
    try:
        parsed = normal.size(dim, atoms)
    except Unknown:
        return str(dim)
    return parsed if len(atoms) == len(symbols) else str(dim)


def _read(value: Any, shape: tuple[Expression | str, ...], rewrite: Rewrite) -> Shape:
    """Read dims that only data determines from the result. Other results that name the same symbol have the same size."""
    found = []
    for position, dim in enumerate(shape):
        if isinstance(dim, str):
            dim = rewrite.symbols.setdefault(dim, rewrite.known.unknown(Origin(value, position)))
        found.append(dim)
    return tuple(found)


def _aliases(held: Any, operands: list[Any], types: list[Any]) -> list[ir.Attribute]:
    """List the aliases of results that are new values of operands: an op that writes in place may share their buffers."""
    written = list(held["written"])
    found = []
    for number, operand in enumerate(written):
        result = len(types) - len(written) + number
        if operands[operand].type == types[result]:
            outputs = f"[{result}]" if len(types) > 1 else "[]"
            text = f"output_tuple_indices = {outputs}, operand_index = {operand}, operand_tuple_indices = []"
            found.append(ir.Attribute.parse(f"#stablehlo.output_operand_alias<{text}>"))
    return found


def _tensor_type(type_: Any) -> Any:
    """Return a type as a tensor type: a number becomes a 0-d tensor."""
    return type_ if isinstance(type_, ir.RankedTensorType) else ir.RankedTensorType.get([], type_)


def _layout(type_: Any) -> ir.Attribute:
    """Return the row-major layout, which every op of PyTorch expects of a contiguous tensor."""
    ranks = range(ir.RankedTensorType(type_).rank - 1, -1, -1)
    return ir.Attribute.parse(f"dense<[{', '.join(map(str, ranks))}]> : tensor<{len(ranks)}xindex>")


def _dense(values: range) -> ir.Attribute:
    return ir.Attribute.parse(f"dense<[{', '.join(map(str, values))}]> : tensor<{len(values)}xi64>")


RULES: dict[str, Pattern] = {"func.call": replace}
