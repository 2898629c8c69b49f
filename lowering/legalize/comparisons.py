"""Comparisons of unsigned numbers and bools, as such."""

from __future__ import annotations

from typing import Any

from torch_mlir import ir

from lowering.ir import mlir


def mark_unsigned(module: Any) -> None:
    """torch-mlir calls every comparison of integers signed, inside of reductions too; XLA refuses that of unsigned numbers."""
    for op in mlir.operations(module):
        if op.name == "stablehlo.compare" and "compare_type" in op.attributes:
            element = str(ir.RankedTensorType(op.operands[0].type).element_type)
            if element.startswith("ui") or element == "i1":
                op.attributes["compare_type"] = ir.Attribute.parse("#stablehlo<comparison_type UNSIGNED>", module.context)
