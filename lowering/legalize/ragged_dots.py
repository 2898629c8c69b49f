"""Products of groups of rows with a matrix each as `chlo.ragged_dot`, for compilers that have code for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch_mlir import ir

from lowering.ir.chlo import RAGGED_DOT

_DIMS = "lhs_contracting_dimensions = [1], rhs_contracting_dimensions = [1], lhs_ragged_dimensions = [0], rhs_group_dimensions = [0]"
_HALVES = ("bf16", "f16")


def find_obstacle(operands: Mapping[str, Any]) -> str:
    """Return why a grouped product on these operands, by name, is no ragged dot; empty if it is one."""
    ranks = [ir.RankedTensorType(value.type).rank for value in operands.values()]
    if "offs" in operands and len(operands) == 3 and ranks == [2, 3, 1]:
        return ""
    return f"{RAGGED_DOT} takes rows (rows, k), matrices (groups, k, n) and where each group ends"


def build(operands: Sequence[Any], result: Any) -> Any:
    """Create the ragged dot of `operands` at the insertion point, and return its value of type `result`.

    operands: rows (rows, k), matrices (groups, k, n), and the row in front of which each group ends, (groups,). Sums of halves are in f32.
    Rows of no group are 0.
    """
    rows, matrices, ends = operands
    made = result = ir.RankedTensorType(result)
    if str(result.element_type) in _HALVES:
        made = ir.RankedTensorType.get(list(result.shape), ir.F32Type.get())
    dims = ir.Attribute.parse(f"#chlo.ragged_dot<{_DIMS}>")
    product = _create(RAGGED_DOT, [rows, matrices, _count_rows(ends)], made, ragged_dot_dimension_numbers=dims)
    return product if made == result else _create("stablehlo.convert", [product], result)


def _count_rows(ends: Any) -> Any:
    """Return how many rows each group has, of the same type as `ends`."""
    type_ = ir.RankedTensorType(ends.type)
    groups = type_.shape[0]
    first = ir.RankedTensorType.get([1], type_.element_type)
    zero = ir.DenseElementsAttr.get_splat(first, ir.IntegerAttr.get(type_.element_type, 0))
    starts = [_create("stablehlo.constant", [], first, value=zero)]
    if groups > 1:
        all_but_last = {"start_indices": 0, "limit_indices": groups - 1, "strides": 1}
        bounds = {name: ir.DenseI64ArrayAttr.get([at]) for name, at in all_but_last.items()}
        starts.append(_create("stablehlo.slice", [ends], ir.RankedTensorType.get([groups - 1], type_.element_type), **bounds))
    dim = ir.IntegerAttr.get(ir.IntegerType.get_signless(64), 0)
    return _create("stablehlo.subtract", [ends, _create("stablehlo.concatenate", starts, type_, dimension=dim)], type_)


def _create(name: str, operands: Sequence[Any], type_: Any, **attributes: Any) -> Any:
    return ir.Operation.create(name, results=[type_], operands=list(operands), attributes=attributes).result
