"""Gathers and scatters of whole windows: an index for each window, not for each of its elements.

torch-mlir gives every element its full coordinates, most of which count the elements of a dim.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch_mlir import ir
from torch_mlir._mlir_libs import _stablehlo as hlo

from lowering.legalize.inference import matchers
from lowering.legalize.inference.known import element_type, is_static, tensor_type
from lowering.legalize.inference.shapes import integers
from lowering.legalize.patterns import movement
from lowering.legalize.rewriter import Rewrite
from lowering.sizes import arithmetic
from lowering.sizes import expression as ex


@dataclass(frozen=True)
class Places:
    """The index tensor of a gather or scatter: a column for each dim of the operand in `dims`, over the dims `batch`.

    vector: position of the columns in the index tensor; the number of its dims where there is one column and no dim for it.
    """

    columns: tuple[Any, ...]
    dims: tuple[int, ...]
    batch: ex.Shape
    vector: int

    @staticmethod
    def find(indices: Any, dims: Sequence[int], vector: int, rewrite: Rewrite) -> Places | None:
        """Return the index tensor `indices`, or None if its columns are not apart."""
        shape = rewrite.known.dims(indices)
        owner = None if isinstance(indices.owner, ir.Block) else indices.owner
        if len(dims) == 1:
            columns = [indices]
        elif owner is not None and owner.name == "stablehlo.concatenate" and owner.attributes["dimension"].value == vector:
            columns = list(owner.operands)
        else:
            return None
        return Places(tuple(columns), tuple(dims), shape[:vector] + shape[vector + 1 :], vector) if len(columns) == len(dims) else None

    def counts(self, column: int, rewrite: Rewrite) -> int | None:
        """Return the batch dim whose indices a column repeats, if it is such a column and no other column depends on that dim."""
        map_ = rewrite.known.affine_map(self.columns[column])
        if map_ is None or map_.offset != ex.ZERO:
            return None
        stepping = [(position, step) for position, step in enumerate(map_.steps) if step != ex.ZERO]
        if len(stepping) != 1 or stepping[0][1] != ex.ONE or stepping[0][0] == self.vector:
            return None
        axis = stepping[0][0] - (stepping[0][0] > self.vector)
        others = [other for position, other in enumerate(self.columns) if position != column]
        return axis if all(self._is_constant_along(other, axis, rewrite) for other in others) else None

    def _is_constant_along(self, column: Any, axis: int, rewrite: Rewrite) -> bool:
        repeated, position = _find_broadcast(column, rewrite), axis + (axis >= self.vector)
        if repeated is None:
            return False
        move = repeated[1]
        assert move.places is not None
        return position not in move.places or move.source[move.places.index(position)] == ex.ONE != self.batch[axis]

    def without(self, removed: dict[int, int | None], rewrite: Rewrite) -> Any:
        """Create the index tensor without columns and the batch dims that they count (`removed`, by column), at the current place."""
        kept = [column for position, column in enumerate(self.columns) if position not in removed]
        axes = [axis for axis in range(len(self.batch)) if axis not in removed.values()]
        batch = tuple(self.batch[axis] for axis in axes)
        if len(kept) == 1:
            return self._narrow(kept[0], axes, batch, rewrite)
        columns = [self._narrow(column, axes, (*batch, ex.ONE), rewrite) for column in kept]
        shape = (*batch, ex.number(len(kept)))
        joined = ir.Operation.create("stablehlo.concatenate", results=[tensor_type(shape, columns[0])], operands=columns,
                                     attributes={"dimension": ir.IntegerAttr.get(ir.IntegerType.get_signless(64), len(batch))})  # fmt: skip
        rewrite.known.learn_dims(joined.result, shape)
        return joined.result

    def count_left(self, removed: dict[int, int | None]) -> int:
        """Return the number of batch dims that are left without `removed`."""
        return sum(axis not in removed.values() for axis in range(len(self.batch)))

    def _narrow(self, column: Any, axes: list[int], shape: ex.Shape, rewrite: Rewrite) -> Any:
        """Create a column over some of the batch dims. It is a broadcast, if they are not all."""
        if len(axes) == len(self.batch):
            return movement.reshape(column, shape, rewrite)
        repeated = _find_broadcast(column, rewrite)
        assert repeated is not None
        source, move = repeated
        assert move.places is not None
        positions = [axis + (axis >= self.vector) for axis in axes]
        kept = [(dim, positions.index(place)) for dim, place in zip(move.source, move.places, strict=True) if place in positions]
        if len(kept) < len(move.source):
            source = movement.reshape(source, tuple(dim for dim, _ in kept), rewrite)
        return movement.broadcast(source, tuple(place for _, place in kept), shape, rewrite)


@dataclass(frozen=True)
class Windows:
    """The windows that a gather reads, or a scatter writes.

    positions: of each dim of the operand that windows have, in the tensor of all windows, which has `rank` dims. The positions are in the
        order of the dims. The other dims of the operand are `collapsed`: each index reads one element of them.
    """

    positions: Mapping[int, int]
    collapsed: tuple[int, ...]
    rank: int

    @staticmethod
    def read(operand: ex.Shape, collapsed: Sequence[int], offsets: Sequence[int], rank: int) -> Windows:
        """Return the windows of an operand. offsets: the dims that the windows have in the tensor of all windows."""
        dims = [dim for dim in range(len(operand)) if dim not in collapsed]
        return Windows(dict(zip(dims, offsets, strict=True)), tuple(collapsed), rank)

    def widen(self, operand: ex.Shape, places: Places, rewrite: Rewrite) -> tuple[Windows, dict[int, int | None]]:
        """Return windows over the dims whose columns count their elements, and the columns that are then not needed.

        Each of these columns comes with the batch dim that the windows cover. A column of a dim of size one is not needed: its index is 0,
        and it has no batch dim. One column is kept.
        """
        batch = [position for position in range(self.rank) if position not in self.positions.values()]
        wide = dict(self.positions)
        removed: dict[int, int | None] = {}
        for column, dim in enumerate(places.dims):
            if len(removed) == len(places.dims) - 1:
                break
            if operand[dim] == ex.ONE:
                removed[column] = None
                continue
            axis = places.counts(column, rewrite) if dim in self.collapsed else None
            if axis is None or axis in removed.values() or not (operand[dim] - places.batch[axis]).is_at_least(0):
                continue
            tried = {**wide, dim: batch[axis]}
            if [tried[dim] for dim in sorted(tried)] == sorted(tried.values()):
                wide, removed[column] = tried, axis
        return Windows(wide, tuple(dim for dim in self.collapsed if dim not in wide), self.rank), removed


def _find_broadcast(column: Any, rewrite: Rewrite) -> tuple[Any, movement.Move] | None:
    """Return the value that a column broadcasts and its dims, looking through a reshape that only inserts dims of size one."""
    move = movement.Move.find(column, rewrite)
    if move is None or move.places is not None:
        return None if move is None else (column.owner.operands[0], move)
    broadcast, inserted = column.owner.operands[0], matchers.insertion(column, rewrite.known)
    move = movement.Move.find(broadcast, rewrite)
    if inserted is None or move is None or move.places is None:
        return None
    kept = [position for position in range(len(rewrite.known.dims(column))) if position not in inserted]
    return broadcast.owner.operands[0], movement.Move(move.source, tuple(kept[place] for place in move.places))


def widen_gather(op: Any, rewrite: Rewrite) -> None:
    """Read whole windows where columns of the index tensor count the elements of a dim."""
    numbers = hlo.GatherDimensionNumbers(op.attributes["dimension_numbers"])
    places = Places.find(op.operands[1], numbers.start_index_map, numbers.index_vector_dim, rewrite)
    if places is None or numbers.operand_batching_dims:
        return
    known = rewrite.known
    source, result = known.dims(op.operands[0]), known.dims(op.results[0])
    read = known.values(op.operands[2]) if len(op.operands) > 2 else tuple(ex.number(size) for size in integers(op, "slice_sizes"))
    if read is None:
        return
    windows = Windows.read(source, numbers.collapsed_slice_dims, numbers.offset_dims, len(result))
    windows, removed = windows.widen(source, places, rewrite)
    if not removed:
        return
    sizes = list(read)
    for column, axis in removed.items():
        sizes[places.dims[column]] = ex.ONE if axis is None else places.batch[axis]
    chosen = [dim for column, dim in enumerate(places.dims) if column not in removed]
    rewrite.emitter.here = op
    with ir.InsertionPoint(op), op.location:
        indices = places.without(removed, rewrite)
        vector = places.count_left(removed)
        attribute = hlo.GatherDimensionNumbers.get(sorted(windows.positions.values()), windows.collapsed, [], [], chosen, vector)
        attributes = {"dimension_numbers": attribute, "indices_are_sorted": ir.BoolAttr.get(False)}
        operands = [op.operands[0], indices]
        if is_static(tuple(sizes)):
            name, attributes["slice_sizes"] = "stablehlo.gather", ir.DenseI64ArrayAttr.get([size.constant for size in sizes])
        else:
            name = "stablehlo.dynamic_gather"
            operands.append(rewrite.emitter.vector(sizes))
            known.learn_values(operands[-1], tuple(sizes))
        created = ir.Operation.create(name, results=[op.results[0].type], operands=operands, attributes=attributes)
    known.learn_dims(created.result, result)
    rewrite.replace(op.results[0], rewrite.fold(created))


def keep_element(op: Any, rewrite: Rewrite) -> None:
    """Pad dims of which a gather reads single elements to one element where they may be empty: no window fits into an empty dim.

    No index reads the padding, because there is none into an empty dim.
    """
    known, operand = rewrite.known, op.operands[0]
    shape = known.dims(operand)
    sizes = known.values(op.operands[2]) if len(op.operands) > 2 else [ex.number(size) for size in integers(op, "slice_sizes")]
    missing = [arithmetic.maximum(ex.ONE - dim, ex.ZERO) if size == ex.ONE and known.is_outside((dim,), 0) else ex.ZERO
               for dim, size in zip(shape, sizes or shape, strict=True)]
    if all(count == ex.ZERO for count in missing):
        return
    rewrite.emitter.here = op
    with ir.InsertionPoint(op), op.location:
        vectors = [tuple([ex.ZERO] * len(shape)), tuple(missing), tuple([ex.ZERO] * len(shape))]
        edges = [rewrite.emitter.vector(vector) for vector in vectors]
        for edge, vector in zip(edges, vectors, strict=True):
            known.learn_values(edge, vector)
        padded = tuple(dim if count == ex.ZERO else arithmetic.maximum(dim, ex.ONE) for dim, count in zip(shape, missing, strict=True))
        operands = [operand, _make_zero(str(element_type(operand.type)), rewrite), *edges]
        op.operands[0] = ir.Operation.create("stablehlo.dynamic_pad", results=[tensor_type(padded, operand)], operands=operands).result
    known.learn_dims(op.operands[0], padded)


def _make_zero(element: str, rewrite: Rewrite) -> Any:
    if element.startswith("complex"):  # MLIR's Python bindings take no complex constants
        part = _make_zero(element.removeprefix("complex<").removesuffix(">"), rewrite)
        return rewrite.emitter.op("stablehlo.complex", [part, part], f"tensor<{element}>")
    return rewrite.emitter.constant("dense<0>" if element.startswith(("i", "ui")) else "dense<0.0>", f"tensor<{element}>")


def widen_scatter(op: Any, rewrite: Rewrite) -> None:
    """Write whole windows where columns of the index tensor count the elements of a dim."""
    numbers = hlo.ScatterDimensionNumbers(op.attributes["scatter_dimension_numbers"])
    if len(op.operands) != 3 or numbers.input_batching_dims:
        return
    places = Places.find(op.operands[1], numbers.scattered_dims_to_operand_dims, numbers.index_vector_dim, rewrite)
    if places is None:
        return
    target, updates = (rewrite.known.dims(op.operands[position]) for position in (0, 2))
    windows = Windows.read(target, numbers.inserted_window_dims, numbers.update_window_dims, len(updates))
    windows, removed = windows.widen(target, places, rewrite)
    if not removed:
        return
    chosen = [dim for column, dim in enumerate(places.dims) if column not in removed]
    rewrite.emitter.here = op
    with ir.InsertionPoint(op), op.location:
        op.operands[1] = places.without(removed, rewrite)
    op.attributes["scatter_dimension_numbers"] = hlo.ScatterDimensionNumbers.get(
        sorted(windows.positions.values()), windows.collapsed, [], [], chosen, places.count_left(removed))
