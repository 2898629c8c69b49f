"""Gathers and scatters at adjacent indices: a slice is read, or updated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch_mlir import ir
from torch_mlir._mlir_libs import _stablehlo as hlo

from lowering.legalize.inference import iotas
from lowering.legalize.inference.known import tensor_type
from lowering.legalize.inference.shapes import integers
from lowering.legalize.patterns import movement
from lowering.legalize.patterns.windows import Places
from lowering.legalize.rewriter import Rewrite
from lowering.sizes import expression as ex
from lowering.sizes.expression import Expression


@dataclass(frozen=True)
class Slice:
    """Indices that count up from `start` along the batch dim `axis`, or one index (`axis` None), whose columns are in `places`.

    start: None if it is not a number computed from sizes or a 0-d tensor.
    """

    places: Places
    axis: int | None
    start: Expression | None

    @staticmethod
    def find(places: Places, rewrite: Rewrite) -> Slice | None:
        wide = [axis for axis, size in enumerate(places.batch) if size != ex.ONE]
        map_ = iotas.find_map(places.columns[0], rewrite.known) if len(places.columns) == 1 else None
        if not wide:
            return Slice(places, None, None if map_ is None else map_.offset)
        if len(wide) > 1 or map_ is None or any(
                step != (ex.ONE if position == wide[0] + (wide[0] >= places.vector) else ex.ZERO)
                for position, step in enumerate(map_.steps) if position != places.vector):
            return None
        return Slice(places, wide[0], map_.offset)


def update_slice(op: Any, rewrite: Rewrite) -> None:
    """Update a slice where a scatter replaces elements at one index, or at adjacent ones.

    Indices that eager rejects are the difference: a scatter does not write there, and an update is moved to the nearest place inside.
    """
    numbers = hlo.ScatterDimensionNumbers(op.attributes["scatter_dimension_numbers"])
    if len(op.operands) != 3 or numbers.input_batching_dims or not _replaces(op):
        return
    places = Places.find(op.operands[1], numbers.scattered_dims_to_operand_dims, numbers.index_vector_dim, rewrite)
    slice_ = None if places is None else Slice.find(places, rewrite)
    if slice_ is None:
        return
    target, updates = (rewrite.known.dims(op.operands[position]) for position in (0, 2))
    positions = _find_positions(slice_, len(target), list(numbers.inserted_window_dims), list(numbers.update_window_dims), len(updates))
    if positions is None:
        return
    rewrite.emitter.here = op
    with ir.InsertionPoint(op), op.location:
        shape = tuple(ex.ONE if position is None else updates[position] for position in positions)
        update = movement.reshape(_reorder(op.operands[2], positions, rewrite), shape, rewrite)
        element = str(ir.RankedTensorType(op.operands[1].type).element_type)
        starts = [rewrite.emitter.constant("dense<0>", f"tensor<{element}>")] * len(target)
        for dim, column in zip(slice_.places.dims, slice_.places.columns, strict=True):
            starts[dim] = movement.reshape(column, (), rewrite) if slice_.axis is None else rewrite.emitter.size(slice_.start, element)  # type: ignore[arg-type]
        created = ir.Operation.create("stablehlo.dynamic_update_slice", results=[op.results[0].type],
                                      operands=[op.operands[0], update, *starts])
    rewrite.known.learn_dims(created.result, target)
    rewrite.replace(op.results[0], rewrite.fold(created))


def read_slice(op: Any, rewrite: Rewrite) -> None:
    """Read a slice where a gather takes adjacent windows that are known to lie inside."""
    numbers = hlo.GatherDimensionNumbers(op.attributes["dimension_numbers"])
    known = rewrite.known
    places = Places.find(op.operands[1], numbers.start_index_map, numbers.index_vector_dim, rewrite)
    slice_ = None if places is None or numbers.operand_batching_dims else Slice.find(places, rewrite)
    if slice_ is None or slice_.start is None or known.is_from_data(slice_.start):
        return
    source, result = known.dims(op.operands[0]), known.dims(op.results[0])
    read = known.values(op.operands[2]) if len(op.operands) > 2 else tuple(ex.number(size) for size in integers(op, "slice_sizes"))
    positions = _find_positions(slice_, len(source), list(numbers.collapsed_slice_dims), list(numbers.offset_dims), len(result))
    (dim,) = slice_.places.dims
    if read is None or positions is None or [at for at in positions if at is not None] != sorted(at for at in positions if at is not None):
        return
    shape = tuple(size if position is None else result[position] for size, position in zip(read, positions, strict=True))
    if not slice_.start.is_at_least(0) or not (source[dim] - slice_.start - shape[dim]).is_at_least(0):
        return
    starts = [slice_.start if position == dim else ex.ZERO for position in range(len(source))]
    rewrite.emitter.here = op
    with ir.InsertionPoint(op), op.location:
        vectors = [starts, [start + size for start, size in zip(starts, shape, strict=True)], [ex.ONE] * len(source)]
        operands = [op.operands[0], *(rewrite.emitter.vector(values, "i64") for values in vectors)]
        created = ir.Operation.create("stablehlo.real_dynamic_slice", results=[tensor_type(shape, op.results[0])], operands=operands)
        known.learn_dims(created.result, shape)
        for operand, values in zip(operands[1:], vectors, strict=True):
            known.learn_values(operand, tuple(values))
        rewrite.replace(op.results[0], movement.reshape(rewrite.fold(created), result, rewrite))


def _replaces(op: Any) -> bool:
    """Return whether a scatter's updates replace the old elements."""
    block = op.regions[0].blocks[0]
    terminator = list(block.operations)[-1].operation
    return bool(terminator.operands[0] == block.arguments[1])


def _find_positions(slice_: Slice, rank: int, single: list[int], offsets: list[int], width: int) -> list[int | None] | None:
    """Return the position of each dim of the operand in the tensor of all windows, of `width` dims, None for a dim of size one.

    single, offsets: the dims of the operand that windows do not have, and the positions of the others. Return None if the windows are
    wider than one along the dim of adjacent indices.
    """
    batch = [position for position in range(width) if position not in offsets]
    windows = iter(offsets)
    positions = [None if dim in single else next(windows) for dim in range(rank)]
    if slice_.axis is not None:
        (dim,) = slice_.places.dims
        if dim not in single:
            return None
        positions[dim] = batch[slice_.axis]
    return positions


def _reorder(value: Any, positions: list[int | None], rewrite: Rewrite) -> Any:
    """Return `value` with the dims at `positions` in that order, followed by all others, of size one."""
    order = [position for position in positions if position is not None]
    if order == sorted(order):
        return value
    shape = rewrite.known.dims(value)
    order += [position for position in range(len(shape)) if position not in order]
    ordered = tuple(shape[position] for position in order)
    created = ir.Operation.create("stablehlo.transpose", results=[tensor_type(ordered, value)], operands=[value],
                                  attributes={"permutation": ir.DenseI64ArrayAttr.get(order)})
    rewrite.known.learn_dims(created.result, ordered)
    return created.result
