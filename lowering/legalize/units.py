"""Dims of size one that only stand in the way: inserted after a reduction, carried through arithmetic, and broadcast away again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch_mlir import ir

from lowering.legalize import expression as ex
from lowering.legalize.dims import ELEMENTWISE

if TYPE_CHECKING:
    from lowering.legalize.rewrite import Rewrite

_RESHAPES = ("stablehlo.dynamic_reshape", "stablehlo.reshape")
_BROADCASTS = ("stablehlo.dynamic_broadcast_in_dim", "stablehlo.broadcast_in_dim")
SINKABLE = ELEMENTWISE - {"stablehlo.sort", "stablehlo.reverse", "stablehlo.cholesky", "stablehlo.bitcast_convert", "stablehlo.optimization_barrier"}


def sink(op: Any, rewrite: Rewrite) -> None:
    """f(reshape(x), splat) = reshape(f(x, splat')), where the reshape inserts dims of size one."""
    if op.name not in SINKABLE or len(op.results) != 1:
        return
    inserted = [insertion(operand, rewrite) for operand in op.operands]
    places = next((places for places in inserted if places is not None), None)
    if places is None or not all(found == places or splat(operand) is not None for found, operand in zip(inserted, op.operands, strict=True)):
        return
    shape = tuple(dim for position, dim in enumerate(rewrite.known.dims(op.results[0])) if position not in places)
    sizes = [dim.constant if dim.constant is not None else ir.ShapedType.get_dynamic_size() for dim in shape]
    rewrite.emitter.here = op
    with ir.InsertionPoint(op), op.location:
        operands = [operand.owner.operands[0] if found == places else _splat_at(operand, shape, sizes, rewrite)
                    for found, operand in zip(inserted, op.operands, strict=True)]  # fmt: skip
        type_ = ir.RankedTensorType.get(sizes, ir.RankedTensorType(op.results[0].type).element_type)
        attributes = {name: op.attributes[name] for name in ("comparison_direction", "compare_type") if name in op.attributes}
        lower = ir.Operation.create(op.name, results=[type_], operands=operands, attributes=attributes)
        rewrite.known.learn_dims(lower.result, shape)
        wanted = rewrite.emitter.vector(rewrite.known.dims(op.results[0]))
        raised = ir.Operation.create("stablehlo.dynamic_reshape", results=[op.results[0].type], operands=[lower.result, wanted])
    rewrite.known.learn_dims(raised.result, rewrite.known.dims(op.results[0]))
    rewrite.replace(op.results[0], raised.result)


def insertion(value: Any, rewrite: Rewrite) -> tuple[int, ...] | None:
    """Where a reshape inserted dims of size one, if `value` is such a reshape and it does nothing else."""
    if isinstance(value.owner, ir.Block) or value.owner.name not in _RESHAPES:
        return None
    source = list(rewrite.known.dims(value.owner.operands[0]))
    places, remaining = [], list(source)
    for position, dim in enumerate(rewrite.known.dims(value)):
        if remaining and dim == remaining[0]:
            remaining.pop(0)
        elif dim == ex.ONE:
            places.append(position)
        else:
            return None
    return tuple(places) if places and not remaining else None


def splat(value: Any) -> Any | None:
    """The 0-d tensor that `value` repeats, if it does."""
    if isinstance(value.owner, ir.Block) or value.owner.name not in _BROADCASTS:
        return None
    source = value.owner.operands[0]
    return source if ir.RankedTensorType(source.type).rank == 0 else None


def constant_of(value: Any) -> Any | None:
    """The number that a constant holds throughout, or None."""
    scalar = splat(value)
    source = scalar if scalar is not None else value
    if isinstance(source.owner, ir.Block) or source.owner.name != "stablehlo.constant":
        return None
    attribute = source.owner.attributes["value"]
    if not isinstance(attribute, ir.DenseIntElementsAttr | ir.DenseFPElementsAttr) or not attribute.is_splat:
        return None
    number = attribute.get_splat_value()
    return number.value if isinstance(number, ir.IntegerAttr | ir.FloatAttr | ir.BoolAttr) else None


def neutral(op: Any, rewrite: Rewrite) -> None:
    """x*1, x/1, x-0, x and true, and x+0 of integers, are x (x+0 of floats turns -0 into 0)."""
    left, right = op.operands
    for operand, other, commutes in ((left, right, True), (right, left, op.name not in ("stablehlo.subtract", "stablehlo.divide"))):
        if commutes and operand.type == op.results[0].type and _is_neutral(op, constant_of(other), rewrite):
            rewrite.replace(op.results[0], operand)
            return


def _is_neutral(op: Any, number: Any | None, rewrite: Rewrite) -> bool:
    if number is None:
        return False
    match op.name:
        case "stablehlo.multiply" | "stablehlo.divide":
            return bool(number == 1)
        case "stablehlo.subtract":
            return bool(number == 0)
        case "stablehlo.add":
            return bool(number == 0) and not rewrite.known.is_float(op.results[0])
        case "stablehlo.and":
            return rewrite.known.is_bool(op.results[0]) and bool(number)
        case "stablehlo.or":
            return rewrite.known.is_bool(op.results[0]) and not number
    return False


def _splat_at(value: Any, shape: ex.Shape, sizes: list[int], rewrite: Rewrite) -> Any:
    type_ = ir.RankedTensorType.get(sizes, ir.RankedTensorType(value.type).element_type)
    none = ir.DenseI64ArrayAttr.get([])
    key_shape = rewrite.emitter.vector(shape)
    created = ir.Operation.create("stablehlo.dynamic_broadcast_in_dim", results=[type_], operands=[splat(value), key_shape],
                                  attributes={"broadcast_dimensions": none})
    rewrite.known.learn_dims(created.result, shape)
    return created.result
