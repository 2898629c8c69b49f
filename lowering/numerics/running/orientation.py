"""The operand of a product that XLA's CPU compiler reads in memory order, and the one that it transposes first."""

from __future__ import annotations

import math
from typing import Any

from lowering.ir import mlir

FEW = 64  # rows of the left operand


def orient(module: Any) -> None:
    """Exchange the operands of products in a static StableHLO module, in place, where XLA would otherwise transpose the larger one.

    XLA reads a left operand whose contracted dims come last as it is. It copies such a right operand into [batch, contracted, free] in each
    run, or multiplies by it slowly. The exchange transposes the result instead, so it serves products with few rows at the left: those of
    weights and caches in a step of generation.
    """
    for op in list(mlir.walk_operations(module)):
        if op.name == "stablehlo.dot_general" and "algorithm" not in op.attributes:  # which says what each operand is rounded to
            _exchange(op)


def _exchange(op: Any) -> None:
    from jaxlib.mlir import ir
    from jaxlib.mlir.dialects import stablehlo as hlo

    numbers = hlo.DotDimensionNumbers(op.attributes["dot_dimension_numbers"])
    left, right = (list(ir.RankedTensorType(operand.type).shape) for operand in op.operands)
    batch, contracted = list(numbers.rhs_batching_dimensions), list(numbers.rhs_contracting_dimensions)
    free = len(right) - len(batch) - len(contracted)  # of the right operand
    count = len(batch)
    taken = (*numbers.lhs_batching_dimensions, *numbers.lhs_contracting_dimensions)
    rows = math.prod(size for dim, size in enumerate(left) if dim not in taken)
    columns = math.prod(right[count : count + free])
    is_contracted_last = batch == list(range(count)) and contracted == list(range(count + free, len(right)))
    if not is_contracted_last or not free or rows > FEW or 4 * rows > columns or (rows == 1 and not batch):
        return
    result = ir.RankedTensorType(op.results[0].type)
    shape, rest = list(result.shape), result.rank - free
    exchanged = hlo.DotDimensionNumbers.get(numbers.rhs_batching_dimensions, numbers.lhs_batching_dimensions,
                                            numbers.rhs_contracting_dimensions, numbers.lhs_contracting_dimensions)  # fmt: skip
    order = [*range(count), *range(count + free, result.rank), *range(count, count + free)]
    with ir.InsertionPoint(op), op.location:
        type_ = ir.RankedTensorType.get(shape[:count] + shape[rest:] + shape[count:rest], result.element_type)
        product = ir.Operation.create("stablehlo.dot_general", results=[type_], operands=[op.operands[1], op.operands[0]],
                                      attributes={**dict(op.attributes.items()), "dot_dimension_numbers": exchanged})
        transposed = ir.Operation.create("stablehlo.transpose", results=[result], operands=[product.result],
                                         attributes={"permutation": ir.DenseI64ArrayAttr.get(order)})
    op.results[0].replace_all_uses_with(transposed.result)
    op.erase()
