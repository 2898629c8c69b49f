"""Matchers: splats, constants, and reshapes that only insert dims of size one."""

from __future__ import annotations

from typing import Any

from torch_mlir import ir

from lowering.legalize.inference.known import Known
from lowering.sizes import expression as ex

RESHAPES = ("stablehlo.dynamic_reshape", "stablehlo.reshape")
BROADCASTS = ("stablehlo.dynamic_broadcast_in_dim", "stablehlo.broadcast_in_dim")


def insertion(value: Any, known: Known) -> tuple[int, ...] | None:
    """Return the positions of the dims of size one that a reshape inserts, if `value` is a reshape that does nothing else."""
    if isinstance(value.owner, ir.Block) or value.owner.name not in RESHAPES:
        return None
    return find_inserted(known.dims(value.owner.operands[0]), known.dims(value)) or None


def find_inserted(source: ex.Shape, target: ex.Shape) -> tuple[int, ...] | None:
    """Return the positions of the dims of size one that make `source` into `target`, or None if other dims differ."""
    remaining, places = list(source), []
    for position, dim in enumerate(target):
        if remaining and dim == remaining[0]:
            remaining.pop(0)
        elif dim == ex.ONE:
            places.append(position)
        else:
            return None
    return tuple(places) if not remaining else None


def splat(value: Any) -> Any | None:
    """Return the 0-d tensor that `value` is a broadcast of, if any."""
    if isinstance(value.owner, ir.Block) or value.owner.name not in BROADCASTS:
        return None
    source = value.owner.operands[0]
    return source if ir.RankedTensorType(source.type).rank == 0 else None


def read_constant(value: Any) -> Any | None:
    """Return the number that all elements of a constant have, or None."""
    scalar = splat(value)
    source = scalar if scalar is not None else value
    if isinstance(source.owner, ir.Block) or source.owner.name != "stablehlo.constant":
        return None
    attribute = source.owner.attributes["value"]
    if not isinstance(attribute, ir.DenseIntElementsAttr | ir.DenseFPElementsAttr) or not attribute.is_splat:
        return None
    number = attribute.get_splat_value()
    return number.value if isinstance(number, ir.IntegerAttr | ir.FloatAttr | ir.BoolAttr) else None
