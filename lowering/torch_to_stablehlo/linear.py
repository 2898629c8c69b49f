"""Linear algebra that StableHLO has ops for."""

from __future__ import annotations

from collections.abc import Sequence

from torch_mlir import ir

from lowering.torch_to_stablehlo.complex_numbers import make_real_number
from lowering.torch_to_stablehlo.rewriting import Call, rule, tensor_type


@rule("aten.linalg_cholesky_ex")
def _cholesky(call: Call) -> Sequence[ir.Value] | None:
    """Lower aten::linalg_cholesky_ex(self, upper, check_errors) for a lower factor.

    Return None if `info` is used: XLA does not report which minor fails.
    """
    if call.constant(1) or list(call.op.results[1].uses):
        return None
    given = call.tensor(0)
    factor = call.make("stablehlo.cholesky", [given], given.type, lower="true")
    lower = _clear_upper(call, factor)
    operands = [call.number(0, "i32"), _batch_sizes(call, given)]
    return [lower, call.make("stablehlo.dynamic_broadcast_in_dim", operands, call.result(1), broadcast_dimensions="array<i64>")]


def _clear_upper(call: Call, matrix: ir.Value) -> ir.Value:
    """Set the elements above the diagonal to zero. XLA may leave any values there."""
    type_ = ir.RankedTensorType(matrix.type)
    places = [call.make("stablehlo.dynamic_iota", [call.shape(matrix)], tensor_type(list(type_.shape), "i64"),
                        iota_dimension=f"{dim} : i64")
              for dim in (type_.rank - 2, type_.rank - 1)]
    kept = call.make("stablehlo.compare", places, tensor_type(list(type_.shape), "i1"),
                     comparison_direction="#stablehlo<comparison_direction GE>")  # fmt: skip
    element = str(type_.element_type)
    zero = make_real_number(call, 0.0, element) if "complex" in element else call.number(0.0, element)
    zeros = call.make("stablehlo.dynamic_broadcast_in_dim", [zero, call.shape(matrix)], matrix.type, broadcast_dimensions="array<i64>")
    return call.make("stablehlo.select", [kept, matrix, zeros], matrix.type)


def _batch_sizes(call: Call, matrix: ir.Value) -> ir.Value:
    """Return the sizes of all dims but the last two."""
    count = ir.RankedTensorType(matrix.type).rank - 2
    return call.extents(call.dims(matrix)[:count])


@rule("aten.linalg_solve_triangular")
def _solve_triangular(call: Call) -> Sequence[ir.Value] | None:
    """Lower aten::linalg_solve_triangular(self, B, upper, left, unitriangular). Return None if batch dims would have to be broadcast."""
    matrix, right = call.tensor(0), call.tensor(1)
    if _batch_dims(matrix) != _batch_dims(right):
        return None
    upper, left, unit = (call.constant(position) for position in (2, 3, 4))
    return [call.make("stablehlo.triangular_solve", [matrix, right], call.result(), left_side=_spell_bool(left),
                      lower=_spell_bool(not upper),
                      unit_diagonal=_spell_bool(unit), transpose_a="#stablehlo<transpose NO_TRANSPOSE>")]  # fmt: skip


def _batch_dims(value: ir.Value) -> list[int]:
    return list(ir.RankedTensorType(value.type).shape)[:-2]


def _spell_bool(value: bool) -> str:
    return "true" if value else "false"
