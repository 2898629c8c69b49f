"""Mark which dims a dynamic broadcast repeats, if the symbols decide it, so that a consumer need not compare sizes at run time."""

from __future__ import annotations

from typing import Any

from torch_mlir import ir

from lowering.legalize.inference.known import Known
from lowering.sizes import expression as ex


def mark(block: ir.Block, known: Known) -> None:
    """Write `known_expanding_dimensions` and `known_nonexpanding_dimensions` to the dynamic broadcasts of a block and its nested blocks.

    The context must be active.
    """
    for op in block.operations:
        operation = op.operation
        for region in operation.regions:
            for inner in region.blocks:
                mark(inner, known)
        if operation.name == "stablehlo.dynamic_broadcast_in_dim":
            _mark(operation, known)


def _mark(op: Any, known: Known) -> None:
    source, target = known.dims(op.operands[0]), known.dims(op.results[0])
    source_type, target_type = (ir.RankedTensorType(value.type) for value in (op.operands[0], op.results[0]))
    expanding, same = [], []
    for position, place in enumerate(list(op.attributes["broadcast_dimensions"])):
        before, after = source[position], target[place]
        if source_type.is_dynamic_dim(position) and not target_type.is_dynamic_dim(place):
            continue  # where no dim expands, MHLO's canonicalization makes a tensor.cast of this, which is no op of MHLO
        if before == after or before.is_at_least(2):
            same.append(position)
        elif before == ex.ONE and after.is_at_least(2):
            expanding.append(position)
    for name, positions in (("known_expanding_dimensions", expanding), ("known_nonexpanding_dimensions", same)):
        if positions:
            op.attributes[name] = ir.DenseI64ArrayAttr.get(positions)
