"""The cost of a static program: the products of elements in its dots and convolutions. A ragged dot multiplies each row once."""

from __future__ import annotations

import importlib
import math
from typing import Any

from lowering.ir import chlo, mlir


def count(module: Any) -> int:
    """Count the products in a static StableHLO module of either build. Bodies of loops and branches count once."""
    ir = mlir.get_ir(module.context)
    is_jaxlib = ir.__name__.startswith("jaxlib")
    hlo = importlib.import_module("jaxlib.mlir.dialects.stablehlo" if is_jaxlib else "torch_mlir._mlir_libs._stablehlo")

    def shape(value: Any) -> list[int]:
        return list(ir.RankedTensorType(value.type).shape)

    total = 0
    for op in mlir.walk_operations(module):
        if op.name == "stablehlo.dot_general":
            numbers = hlo.DotDimensionNumbers(op.attributes["dot_dimension_numbers"])
            total += math.prod(shape(op.results[0])) * math.prod(shape(op.operands[0])[dim] for dim in numbers.lhs_contracting_dimensions)
        elif op.name == chlo.RAGGED_DOT:
            total += math.prod(shape(op.results[0])) * shape(op.operands[0])[-1]
        elif op.name == "stablehlo.convolution":
            numbers = hlo.ConvDimensionNumbers(op.attributes["dimension_numbers"])
            kernel = shape(op.operands[1])
            total += math.prod(shape(op.results[0])) * math.prod(kernel) // kernel[numbers.kernel_output_feature_dimension]
    return total
