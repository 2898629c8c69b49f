"""`!quant.uniform` types of StableHLO and MHLO, and programs without them, in either MLIR build.

XLA and StableHLO's reference interpreter compute with integers: what they run is the arithmetic of these types.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lowering.ir import mlir
from lowering.ir.expansion import Builder

LONGEST_BYTE_SUM = 1 << 14  # terms of a sum of products of bytes and of the correction for a zero point, which fit into i32
LEGALIZE = "builtin.module(func.func(stablehlo-legalize-quant-to-math))"
_FROM_MHLO = "builtin.module(hlo-legalize-to-stablehlo)"
_TO_MHLO = "builtin.module(stablehlo-legalize-to-hlo)"
_PREFIX = "!quant.uniform<"
_SCALE = r"[-+.\deE]+"
_TYPE = re.compile(rf"i(?P<bits>\d+)(<(?P<low>-?\d+):(?P<high>-?\d+)>)?:f32, (?P<scale>{_SCALE})(:(?P<point>-?\d+))?>$")


@dataclass(frozen=True)
class Uniform:
    """A signed integer of `bits` bits in [low, high] that stands for (integer - point) * scale in float32.

    scales: one, or one for each position of dim `axis`.
    """

    low: int
    high: int
    scales: tuple[float, ...]
    point: int = 0
    axis: int | None = None
    bits: int = 8

    def __str__(self) -> str:
        numbers = [f"{scale:.17e}" for scale in self.scales]
        spelled = f"{numbers[0]}:{self.point}" if self.axis is None else f"{{{','.join(numbers)}}}"
        dim = "" if self.axis is None else f":{self.axis}"
        return f"{_PREFIX}i{self.bits}<{self.low}:{self.high}>:f32{dim}, {spelled}>"

    def build(self, ir: Any, shape: Sequence[int]) -> Any:
        """Return the type of a tensor of this shape in the current context; a negative size is dynamic."""
        sizes = "".join("?x" if size < 0 else f"{size}x" for size in shape)
        return ir.Type.parse(f"tensor<{sizes}{self}>")


def is_quantized(type_: Any) -> bool:
    return _PREFIX in str(type_)


def has_types(module: Any) -> bool:
    """Return whether a value of a StableHLO or MHLO module has such a type."""
    return any(is_quantized(result.type) for op in mlir.walk_operations(module) for result in op.results)


def expand(module: Any) -> Any:
    """Return a StableHLO or MHLO module without such types: itself if it has none, else a copy.

    A tensor is quantized as eager does, where StableHLO would add the zero point before it rounds. All else is StableHLO's own pass.
    """
    if not has_types(module):
        return module
    copy = mlir.copy(module)
    is_mhlo = any(op.name.startswith("mhlo.") for op in mlir.walk_operations(copy))
    if is_mhlo:
        mlir.run(copy, _FROM_MHLO, "quantized types")
    ir = mlir.get_ir(copy.context)
    with copy.context, ir.Location.unknown():
        _expand_quantizations(copy, ir)
        mlir.run(copy, LEGALIZE, "quantized types")
        expand_broadcasts(copy)
    mlir.run(copy, "builtin.module(canonicalize,cse)", "quantized types")
    if is_mhlo:
        mlir.run(copy, _TO_MHLO, "quantized types")
    return copy


def _expand_quantizations(module: Any, ir: Any) -> None:
    """Replace each quantization of a whole tensor by one scale: clamp(round(x * (1 / scale)) + point)."""
    build = Builder(ir)
    for op in [op for op in mlir.walk_operations(module) if op.name == "stablehlo.uniform_quantize"]:
        found = _TYPE.search(str(op.results[0].type.element_type))
        if found is None:
            continue
        x, bits = op.operands[0], int(found["bits"])
        low, high = (int(found[key]) if found[key] else end for key, end in (("low", -(1 << (bits - 1))), ("high", (1 << (bits - 1)) - 1)))
        with ir.InsertionPoint(op), op.location:
            scaled = build.same("multiply", x, build.broadcast(build.number(1.0 / float(found["scale"]), x), x, []))
            rounded = build.same("round_nearest_even", scaled)
            point = build.broadcast(build.number(float(found["point"] or 0), x), x, [])
            shifted = build.same("add", rounded, point)
            clamped = build.make("clamp", [build.number(float(low), x), shifted, build.number(float(high), x)], x.type)
            type_ = ir.RankedTensorType(x.type)
            integers = build.make("convert", [clamped], ir.RankedTensorType.get(list(type_.shape), ir.IntegerType.get_signless(bits)))
            typed = build.make("bitcast_convert", [integers], op.results[0].type)
        op.results[0].replace_all_uses_with(typed)
        op.erase()


def expand_broadcasts(module: Any) -> None:
    """Replace the elementwise CHLO ops that broadcast one operand, as StableHLO's pass makes them, and casts to the same type, in place."""
    ir = mlir.get_ir(module.context)
    build = Builder(ir)
    for op in list(mlir.walk_operations(module)):
        result: Any = op.results[0] if len(op.results) else None
        if op.name in ("stablehlo.bitcast_convert", "stablehlo.convert") and op.operands[0].type == result.type:
            result.replace_all_uses_with(op.operands[0])
            op.erase()
        elif op.name.startswith("chlo.broadcast_"):
            ranks = [ir.RankedTensorType(operand.type).rank for operand in op.operands]
            whole = op.operands[ranks.index(max(ranks))]
            axes = list(op.attributes["broadcast_dimensions"]) if "broadcast_dimensions" in op.attributes else []
            with ir.InsertionPoint(op), op.location:
                operands = [operand if rank == max(ranks) else build.broadcast(operand, whole, axes)
                            for operand, rank in zip(op.operands, ranks, strict=True)]
                made = build.make(op.name.removeprefix("chlo.broadcast_"), operands, result.type)
            result.replace_all_uses_with(made)
            op.erase()
