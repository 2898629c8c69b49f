"""Slices of tensors with a constant at their ends: the ends are cut off, or the slice is a padding that moves the elements."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch_mlir import ir

from lowering.legalize.inference.matchers import splat
from lowering.legalize.inference.shapes import integers
from lowering.legalize.rewriter import Rewrite
from lowering.sizes import expression as ex
from lowering.sizes.expression import Expression


def cut(op: Any, starts: Sequence[Expression], limits: Sequence[Expression], rewrite: Rewrite) -> None:
    """Make one padding, whose edges may be negative, of a `real_dynamic_slice` of a tensor that is padded, or joined to a constant."""
    source = op.operands[0].owner
    if isinstance(source, ir.Block):
        return
    ends = [dim - limit for dim, limit in zip(rewrite.known.dims(op.operands[0]), limits, strict=True)]
    if source.name == "stablehlo.pad" and not any(integers(source, "interior_padding")):
        low, high = (_subtract(integers(source, f"edge_padding_{edge}"), cuts) for edge, cuts in (("low", starts), ("high", ends)))
        if low is not None and high is not None:
            _pad(op, source.operands[0], source.operands[1], low, high, rewrite)
    elif source.name == "stablehlo.concatenate" and len(source.operands) == 2 and all(start == ex.ZERO for start in starts):
        _move(op, source, rewrite)


def _move(op: Any, joined: Any, rewrite: Rewrite) -> None:
    """Replace the first n elements of [constant, x], where x has n elements, by x moved up and padded with the constant.

    A move by n or more leaves only the constant.
    """
    fill, value = splat(joined.operands[0]), joined.operands[1]
    dim, size = joined.attributes["dimension"].value, rewrite.known.dims(value)
    if fill is None or rewrite.known.dims(op.results[0]) != size:
        return
    step = _find_step(rewrite.known.dims(joined.operands[0])[dim], size[dim])
    if step is not None:
        low = [step if position == dim else 0 for position in range(len(size))]
        _pad(op, value, fill, low, [-edge for edge in low], rewrite)


def _find_step(length: Expression, size: Expression) -> int | None:
    """Return the constant in `length`, which is one, or the minimum of one and `size`."""
    if length.constant is not None:
        return length.constant
    operands = [number for atom in length.atoms() if atom.op == "min" and ex.of_atom(atom) == length for number in atom.operands]
    return next((number.constant for number in operands if isinstance(number.constant, int) and size in operands), None)


def _subtract(edges: Sequence[int], cuts: Sequence[Expression]) -> list[int] | None:
    """Return the edges of a padding that remain after a cut; None if the amount that is cut is not constant."""
    found = [edge - cut.constant for edge, cut in zip(edges, cuts, strict=True) if cut.constant is not None]
    return found if len(found) == len(cuts) else None


def _pad(op: Any, value: Any, fill: Any, low: list[int], high: list[int], rewrite: Rewrite) -> None:
    edges = {"edge_padding_low": low, "edge_padding_high": high, "interior_padding": [0] * len(low)}
    attributes = {name: ir.DenseI64ArrayAttr.get(values) for name, values in edges.items()}
    with ir.InsertionPoint(op), op.location:
        created = ir.Operation.create("stablehlo.pad", results=[op.results[0].type], operands=[value, fill], attributes=attributes)
    rewrite.known.learn_dims(created.result, rewrite.known.dims(op.results[0]))
    rewrite.replace(op.results[0], created.result)
