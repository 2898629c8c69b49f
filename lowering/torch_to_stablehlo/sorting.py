"""Sorting along a dim, with the indices of the sorted elements."""

from __future__ import annotations

from collections.abc import Sequence

from torch_mlir import ir

from lowering.torch_to_stablehlo.rewriting import Call, rule, tensor_type


@rule("aten.sort")
def _lower_sort(call: Call) -> Sequence[ir.Value] | None:
    """Lower aten::sort(self, dim, descending)."""
    return sort(call, call.constant(1), call.constant(2))


@rule("aten.sort.stable")
def _lower_stable_sort(call: Call) -> Sequence[ir.Value] | None:
    """Lower aten::sort.stable(self, stable, dim, descending). The sort is always stable."""
    return sort(call, call.constant(2), call.constant(3))


def sort(call: Call, dim: int, descending: bool) -> Sequence[ir.Value] | None:
    """Return the sorted values and their int64 indices, or None for a scalar.

    NaN counts as the largest number. Equal elements keep their order.
    """
    values = call.tensor(0)
    type_ = ir.RankedTensorType(values.type)
    if type_.rank == 0:
        return None
    dim = dim % type_.rank
    places = call.make("stablehlo.dynamic_iota", [call.shape(values)], tensor_type(list(type_.shape), "i64"), iota_dimension=f"{dim} : i64")
    sorted_ = ir.Operation.create(
        "stablehlo.sort", results=[values.type, places.type], operands=[values, places], regions=1,
        attributes={"dimension": ir.Attribute.parse(f"{dim} : i64"), "is_stable": ir.BoolAttr.get(True)},
    )  # fmt: skip
    _build_comparator(call, sorted_.regions[0], type_.element_type, descending)
    return list(sorted_.results)


def _build_comparator(call: Call, region: ir.Region, element: ir.Type, descending: bool) -> None:
    """Build the comparison that returns whether the first of two elements comes first."""
    scalar, place = ir.RankedTensorType.get([], element), ir.Type.parse("tensor<i64>")
    block = region.blocks.append(scalar, scalar, place, place)
    left, right = (block.arguments[1], block.arguments[0]) if descending else (block.arguments[0], block.arguments[1])
    with ir.InsertionPoint(block):
        before = _compare(call, "LT", left, right)
        if isinstance(element, ir.FloatType):
            # numbers come before NaN
            is_nan = _compare(call, "NE", right, right)
            is_number = _compare(call, "EQ", left, left)
            before = call.make("stablehlo.or", [before, call.make("stablehlo.and", [is_number, is_nan], "tensor<i1>")], "tensor<i1>")
        ir.Operation.create("stablehlo.return", operands=[before])


def _compare(call: Call, direction: str, left: ir.Value, right: ir.Value) -> ir.Value:
    attribute = f"#stablehlo<comparison_direction {direction}>"
    return call.make("stablehlo.compare", [left, right], "tensor<i1>", comparison_direction=attribute)
