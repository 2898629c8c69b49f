"""Attributes and types of MLIR's builtin dialect, in torch_mlir's build."""

from __future__ import annotations

from typing import Any

from torch_mlir import ir


def make_integer(value: int) -> ir.Attribute:
    """Return a number as an attribute of type i64."""
    return ir.IntegerAttr.get(ir.IntegerType.get_signless(64), value)


def read_element(value: Any) -> str:
    """Return the element type of a ranked tensor as text: `f32`."""
    return str(ir.RankedTensorType(value.type).element_type)
