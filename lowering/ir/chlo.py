"""CHLO in both MLIR builds: the ops that MHLO has too, in the forms that StableHLO, MHLO and a portable artifact can hold.

A portable artifact has no version of CHLO's ops, and a build cannot read another build's. StableHLO writes an op of MHLO that it lacks as a
custom call, which only XLA's conversions take: the form in which such an op goes from one build to the other.
"""

from __future__ import annotations

from typing import Any

from lowering.ir import mlir

# CHLO ops that MHLO has as one op. CHLO's expansion of erf is a polynomial of some 40 ops, each coefficient broadcast to the shape of the
# operand.
WHOLE = {"chlo.erf": "mhlo.erf"}
_BY_TARGET = {target: name for name, target in WHOLE.items()}


def to_calls(module: Any) -> None:
    """Replace each op of `WHOLE` by StableHLO's `custom_call @mhlo.NAME`, in place."""
    ir = mlir.get_ir(module.context)
    for op in list(mlir.walk_operations(module)):
        if op.name in WHOLE:
            with module.context:
                _replace(ir, op, "stablehlo.custom_call", {
                    "call_target_name": ir.StringAttr.get(WHOLE[op.name]), "mhlo.attributes": ir.DictAttr.get({}),
                    "mhlo.version": ir.IntegerAttr.get(ir.IntegerType.get_signless(64), 1),
                })  # fmt: skip


def from_calls(module: Any) -> None:
    """Replace each `custom_call @mhlo.NAME` of an op of `WHOLE` by the op, in place."""
    ir = mlir.get_ir(module.context)
    for op in list(mlir.walk_operations(module)):
        if op.name == "stablehlo.custom_call" and (name := _BY_TARGET.get(op.attributes["call_target_name"].value)):
            with module.context:
                _replace(ir, op, name, {})


def _replace(ir: Any, op: Any, name: str, attributes: dict[str, Any]) -> None:
    with ir.InsertionPoint(op), op.location:
        created = ir.Operation.create(name, results=[result.type for result in op.results], operands=list(op.operands),
                                      attributes=attributes)
    op.results[0].replace_all_uses_with(created.results[0])
    op.erase()
