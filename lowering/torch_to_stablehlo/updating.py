"""Writes to a slice of a tensor, as an update of that slice. A mask would rewrite the whole tensor."""

from __future__ import annotations

from collections.abc import Sequence

from torch_mlir import ir

from lowering.torch_to_stablehlo.rewriting import Call, NotConstant, rule
from lowering.torch_to_stablehlo.slicing import read_bound


@rule("aten.slice_scatter")
def _slice_scatter(call: Call) -> Sequence[ir.Value] | None:
    """Lower aten::slice_scatter(self, src, dim, start, end, step). Return None for a step other than 1.

    Eager requires `src` to have the size of the slice, so that it lies inside `self`.
    """
    if call.constant(5) != 1:
        return None
    given, source = call.tensor(0), call.tensor(1)
    dim = call.constant(2) % ir.RankedTensorType(given.type).rank
    start = call.make("arith.index_cast", [read_bound(call, 3, call.dim(given, dim), call.index(0))], "i64")
    return [_update(call, given, source, dim, call.make("tensor.from_elements", [start], "tensor<i64>"))]


@rule("aten.select_scatter")
def _select_scatter(call: Call) -> Sequence[ir.Value]:
    """Lower aten::select_scatter(self, src, dim, index), at an index that may vary in a loop."""
    given, source = call.tensor(0), call.tensor(1)
    type_ = ir.RankedTensorType(given.type)
    dim = call.constant(2) % type_.rank
    sizes, shape = call.dims(source), list(ir.RankedTensorType(source.type).shape)
    extents = call.extents([*sizes[:dim], call.index(1), *sizes[dim:]])
    one = ir.RankedTensorType.get([*shape[:dim], 1, *shape[dim:]], type_.element_type)
    update = call.make("stablehlo.dynamic_reshape", [source, extents], one)
    return [_update(call, given, update, dim, _start_index(call, given, dim))]


def _update(call: Call, given: ir.Value, update: ir.Value, dim: int, start: ir.Value) -> ir.Value:
    """Write `update` to `given` from index `start` of `dim`, and from 0 of the other dims."""
    zero = call.number(0, "i64")
    starts = [start if axis == dim else zero for axis in range(ir.RankedTensorType(given.type).rank)]
    return call.make("stablehlo.dynamic_update_slice", [given, update, *starts], given.type)


def _start_index(call: Call, given: ir.Value, dim: int) -> ir.Value:
    """Return the index as a 0-d tensor. A negative index counts from the end."""
    try:
        index = call.constant(3)
    except NotConstant:
        index = None
    if index is not None and index >= 0:
        return call.number(index, "i64")
    counted = call.make("torch_c.to_i64", [call.op.operands[3]], "i64")
    place = call.make("tensor.from_elements", [counted], "tensor<i64>")
    size = call.make("arith.index_cast", [call.dim(given, dim)], "i64")
    from_end = call.make("stablehlo.add", [place, call.make("tensor.from_elements", [size], "tensor<i64>")], "tensor<i64>")
    is_negative = call.make("stablehlo.compare", [place, call.number(0, "i64")], "tensor<i1>",
                            comparison_direction="#stablehlo<comparison_direction LT>")  # fmt: skip
    return call.make("stablehlo.select", [is_negative, from_end, place], "tensor<i64>")
