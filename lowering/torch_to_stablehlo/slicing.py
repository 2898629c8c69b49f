"""Slices with bounds clamped as eager does. torch-mlir reads an end of 0 as the end of the dim."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from torch_mlir import ir

from lowering.torch_to_stablehlo.rewriting import Call, NotConstant, rule


@rule("aten.slice.Tensor")
def _slice(call: Call) -> Sequence[ir.Value]:
    """Lower aten::slice(self, dim, start, end, step) with a constant dim and step.

    Negative bounds count from the end. Then all bounds are clamped.
    """
    given = call.tensor(0)
    rank = ir.RankedTensorType(given.type).rank
    dim, step = call.constant(1) % rank, call.constant(4)
    sizes = call.dims(given)
    size = sizes[dim]
    zero = call.index(0)
    start = read_bound(call, 2, size, zero)
    end = call.make("arith.maxsi", [read_bound(call, 3, size, size), start], "index")
    starts, ends, steps = [zero] * rank, list(sizes), [call.index(1)] * rank
    starts[dim], ends[dim], steps[dim] = start, end, call.index(step)
    vectors = [call.extents(values) for values in (starts, ends, steps)]
    return [call.make("stablehlo.real_dynamic_slice", [given, *vectors], call.result())]


def read_bound(call: Call, position: int, size: ir.Value, default: ir.Value) -> ir.Value:
    """Return an operand as a bound in [0, size]."""
    if call.is_none(position):
        return default
    try:
        number = call.constant(position)
    except NotConstant:
        return _clamp(call, _count_from_start(call, position, size), size)
    if number >= sys.maxsize:
        return size
    if number >= 0:
        return call.make("arith.minsi", [call.index(number), size], "index")
    if number < -sys.maxsize // 2:  # it stays below 0 even with the size added, and the sum might overflow
        return call.index(0)
    counted = call.make("arith.addi", [size, call.index(number)], "index")
    return call.make("arith.maxsi", [counted, call.index(0)], "index")


def _count_from_start(call: Call, position: int, size: ir.Value) -> ir.Value:
    """Return a bound that is only known at run time, counted from the start."""
    number = call.make("torch_c.to_i64", [call.op.operands[position]], "i64")
    place = call.make("arith.index_cast", [number], "index")
    from_end = call.make("arith.addi", [place, size], "index")
    is_negative = call.make("arith.cmpi", [place, call.index(0)], "i1", predicate="2 : i64")
    return call.make("arith.select", [is_negative, from_end, place], "index")


def _clamp(call: Call, place: ir.Value, size: ir.Value) -> ir.Value:
    return call.make("arith.minsi", [call.make("arith.maxsi", [place, call.index(0)], "index"), size], "index")

