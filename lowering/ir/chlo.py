"""CHLO in both MLIR builds: the ops that MHLO has too, in the forms that StableHLO, MHLO and a portable artifact can hold.

A portable artifact has no version of CHLO's ops, and a build cannot read another build's. StableHLO writes an op of MHLO that it lacks as a
custom call: the form in which such an op goes from one build to the other. XLA's conversions take that of erf; `ragged_dot` has none of
XLA's, so its call holds the dims of the op as text, and is turned back before any conversion sees it.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from lowering.ir import mlir

# CHLO ops that MHLO has as one op. CHLO's expansion of erf is a polynomial of some 40 ops, each coefficient broadcast to the shape of the
# operand.
WHOLE = {"chlo.erf": "mhlo.erf", "chlo.ragged_dot": "chlo.ragged_dot"}  # with the target of the custom call that stands for it
RAGGED_DOT, RAGGED_DOT_OF_MHLO = "chlo.ragged_dot", "mhlo.ragged_dot"
_BY_TARGET = {target: name for name, target in WHOLE.items()}
_DIMS = "ragged_dot_dimension_numbers"
_LIST = re.compile(r"\w+ = \[[^\]]*\]")


def to_calls(module: Any) -> None:
    """Replace each op of `WHOLE`, and MHLO's ragged dots, by StableHLO's custom call, in place."""
    ir = mlir.get_ir(module.context)
    for op in list(mlir.walk_operations(module)):
        if op.name in WHOLE or op.name == RAGGED_DOT_OF_MHLO:
            with module.context:
                dims = {_DIMS: ir.StringAttr.get(", ".join(_LIST.findall(str(op.attributes[_DIMS]))))} if _DIMS in op.attributes else {}
                mlir.replace(op, "stablehlo.custom_call", {
                    "call_target_name": ir.StringAttr.get(WHOLE.get(op.name, RAGGED_DOT)), "mhlo.attributes": ir.DictAttr.get(dims),
                    "mhlo.version": ir.IntegerAttr.get(ir.IntegerType.get_signless(64), 1),
                })  # fmt: skip


def from_calls(module: Any, names: Collection[str] = tuple(WHOLE)) -> None:
    """Replace each custom call that stands for an op of `names` by the op, in place."""
    ir = mlir.get_ir(module.context)
    for op in list(mlir.walk_operations(module)):
        name = _BY_TARGET.get(op.attributes["call_target_name"].value) if op.name == "stablehlo.custom_call" else None
        if name is not None and name in names:
            with module.context:
                held = op.attributes["mhlo.attributes"]
                dims = {_DIMS: ir.Attribute.parse(f"#chlo.ragged_dot<{held[_DIMS].value}>")} if _DIMS in held else {}
                mlir.replace(op, name, dims)
