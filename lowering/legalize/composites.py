"""CHLO ops that MHLO has as one op of its own: kept whole, as the `custom_call @mhlo.NAME` that StableHLO writes for them."""

from __future__ import annotations

from typing import Any

from torch_mlir import ir

from lowering.ir import mlir

# CHLO's expansion of erf is a polynomial of some 40 ops, each coefficient broadcast to the operand's shape.
KEPT = {"chlo.erf": "mhlo.erf"}


def keep(module: Any) -> None:
    """Replace each op of `KEPT` by its custom call: pure StableHLO, which XLA's own conversions take as the MHLO op."""
    for op in list(mlir.operations(module)):
        if op.name in KEPT:
            with module.context, ir.InsertionPoint(op), op.location:
                created = ir.Operation.create(
                    "stablehlo.custom_call", results=[result.type for result in op.results], operands=list(op.operands),
                    attributes={"call_target_name": ir.StringAttr.get(KEPT[op.name]), "mhlo.attributes": ir.DictAttr.get({}),
                                "mhlo.version": ir.IntegerAttr.get(ir.IntegerType.get_signless(64), 1)},
                )  # fmt: skip
            op.results[0].replace_all_uses_with(created.result)
            op.erase()
