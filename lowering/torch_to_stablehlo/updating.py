"""Writes to one slice of a tensor, at an index that may vary in a loop."""

from __future__ import annotations

from collections.abc import Sequence

from torch_mlir import ir

from lowering.torch_to_stablehlo.rewriting import Call, NotConstant, rule


@rule("aten.select_scatter")
def _select_scatter(call: Call) -> Sequence[ir.Value]:
    """Lower aten::select_scatter(self, src, dim, index) to an update of that slice. A mask would rewrite the whole tensor."""
    given, source = call.tensor(0), call.tensor(1)
    type_ = ir.RankedTensorType(given.type)
    dim = call.constant(2) % type_.rank
    sizes = [_dim_size(call, source, axis - (axis > dim)) if axis != dim else _make_index(call, 1) for axis in range(type_.rank)]
    shape = [ir.RankedTensorType(source.type).shape[axis - (axis > dim)] if axis != dim else 1 for axis in range(type_.rank)]
    extents = call.make("tensor.from_elements", sizes, f"tensor<{type_.rank}xindex>")
    update = call.make("stablehlo.dynamic_reshape", [source, extents], ir.RankedTensorType.get(shape, type_.element_type))
    zero = call.number(0, "i64")
    starts = [_start_index(call, given, dim) if axis == dim else zero for axis in range(type_.rank)]
    return [call.make("stablehlo.dynamic_update_slice", [given, update, *starts], given.type)]


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
    size = call.make("arith.index_cast", [_dim_size(call, given, dim)], "i64")
    from_end = call.make("stablehlo.add", [place, call.make("tensor.from_elements", [size], "tensor<i64>")], "tensor<i64>")
    is_negative = call.make("stablehlo.compare", [place, call.number(0, "i64")], "tensor<i1>",
                            comparison_direction="#stablehlo<comparison_direction LT>")  # fmt: skip
    return call.make("stablehlo.select", [is_negative, from_end, place], "tensor<i64>")


def _dim_size(call: Call, value: ir.Value, axis: int) -> ir.Value:
    return call.make("tensor.dim", [value, _make_index(call, axis)], "index")


def _make_index(call: Call, number: int) -> ir.Value:
    return call.make("arith.constant", [], "index", value=f"{number} : index")
