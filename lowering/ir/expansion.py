"""StableHLO for its reference interpreter, which lacks CHLO's ops and batch norms: they are written as arithmetic, in either build."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lowering.ir import chlo, mlir

_EXPAND = "builtin.module(func.func(chlo-legalize-to-stablehlo))"
_CLEAN = "builtin.module(canonicalize,cse)"
_BATCH_NORM = "stablehlo.batch_norm_inference"


def expand(module: Any) -> None:
    """Replace CHLO ops, custom calls that stand for them, and batch norms by StableHLO's arithmetic, in place. Raises StageFailed."""
    chlo.from_calls(module)
    expand_chlo(module)
    ir = mlir.get_ir(module.context)
    norms = [op for op in mlir.walk_operations(module) if op.name == _BATCH_NORM]
    with module.context, ir.Location.unknown():
        for op in norms:
            with ir.InsertionPoint(op), op.location:
                op.results[0].replace_all_uses_with(_expand_batch_norm(Builder(ir), op))
            op.erase()
    if norms:
        mlir.run(module, _CLEAN, "expansion")


def expand_chlo(module: Any) -> None:
    """Replace CHLO ops by StableHLO's arithmetic, in place. Raises StageFailed."""
    if not any(op.name.startswith("chlo.") for op in mlir.walk_operations(module)):
        return
    mlir.run(module, _EXPAND, "expansion")
    ir = mlir.get_ir(module.context)
    with module.context, ir.Location.unknown():
        for op in [op for op in mlir.walk_operations(module) if op.name == "shape.shape_of"]:
            with ir.InsertionPoint(op), op.location:  # of a tensor that a constant of the expansion is broadcast to
                shape = Builder(ir).shape(op.operands[0])
            for use in list(op.results[0].uses):
                use.owner.operands[use.operand_number] = shape
            op.erase()
    mlir.run(module, _CLEAN, "expansion")


def _expand_batch_norm(build: Builder, op: Any) -> Any:
    """Return (x - mean) * (rsqrt(variance + epsilon) * scale) + offset."""
    x, scale, offset, mean, variance = op.operands
    axis = op.attributes["feature_index"].value
    epsilon = build.broadcast(build.number(op.attributes["epsilon"].value, variance), variance, [])
    factor = build.same("multiply", build.same("rsqrt", build.same("add", variance, epsilon)), scale)
    centered = build.same("subtract", x, build.broadcast(mean, x, [axis]))
    return build.same("add", build.same("multiply", centered, build.broadcast(factor, x, [axis])), build.broadcast(offset, x, [axis]))


class Builder:
    """Creates StableHLO ops at the current insertion point. `ir`: the module of a build."""

    def __init__(self, ir: Any) -> None:
        self._ir = ir

    def make(self, name: str, operands: Sequence[Any], result: Any, **attributes: Any) -> Any:
        return self._ir.Operation.create(f"stablehlo.{name}", results=[result], operands=list(operands), attributes=attributes).results[0]

    def same(self, name: str, *operands: Any) -> Any:
        """Create an elementwise op whose result has the type of its first operand."""
        return self.make(name, operands, operands[0].type)

    def number(self, number: float, like: Any) -> Any:
        """Create a 0-d tensor with the element type of `like`."""
        element = self._ir.RankedTensorType(like.type).element_type
        type_ = self._ir.RankedTensorType.get([], element)
        return self.make("constant", [], type_, value=self._ir.DenseElementsAttr.get_splat(type_, self._ir.FloatAttr.get(element, number)))

    def broadcast(self, value: Any, like: Any, axes: list[int]) -> Any:
        """Broadcast `value` to the shape of `like`, its dims to `axes`."""
        type_, given = self._ir.RankedTensorType(like.type), self._ir.RankedTensorType(value.type)
        result = self._ir.RankedTensorType.get(list(type_.shape), given.element_type)
        places = self._ir.DenseI64ArrayAttr.get(axes)
        if type_.has_static_shape:
            return self.make("broadcast_in_dim", [value], result, broadcast_dimensions=places)
        return self.make("dynamic_broadcast_in_dim", [value, self.shape(like)], result, broadcast_dimensions=places)

    def shape(self, value: Any) -> Any:
        """Create the vector of the dims of `value`."""
        ir, type_ = self._ir, self._ir.RankedTensorType(value.type)
        i32, i64 = (ir.IntegerType.get_signless(width) for width in (32, 64))
        scalar, vector = ir.RankedTensorType.get([], i32), ir.RankedTensorType.get([1], i32)
        parts = []
        for position in range(type_.rank):
            if type_.is_dynamic_dim(position):
                size = self.make("get_dimension_size", [value], scalar, dimension=ir.IntegerAttr.get(i64, position))
                parts.append(self.make("reshape", [size], vector))
            else:
                size = ir.IntegerAttr.get(i32, type_.get_dim_size(position))
                parts.append(self.make("constant", [], vector, value=ir.DenseElementsAttr.get_splat(vector, size)))
        if len(parts) == 1:
            return parts[0]
        return self.make("concatenate", parts, ir.RankedTensorType.get([len(parts)], i32), dimension=ir.IntegerAttr.get(i64, 0))
