"""Reads and writes at tensors of indices, as one gather or scatter of whole windows: one index per place, not one per element."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch_mlir import ir

from lowering.torch_to_stablehlo.rewriting import Call, rule, tensor_type
from lowering.torch_to_stablehlo.scattering import scatter

_MASKS = ("i1", "ui8")
_UNKNOWN = ir.ShapedType.get_dynamic_size()


@dataclass(frozen=True)
class _Places:
    """The places that indices select. A window at a place has size 1 in the dims `chosen`, and the size of the tensor in all others.

    indices: tensor of shape `width`, with a last dim for the dims in `chosen` if there are several. sizes: of `width`, as indices.
    first: position of `width` in the result's dims. The other dims of the result are those of the windows, in order.
    """

    chosen: tuple[int, ...]
    indices: ir.Value
    width: tuple[int, ...]
    sizes: tuple[ir.Value, ...]
    first: int

    def list_windows(self, rank: int) -> list[int]:
        """Return the dims of the windows that are not of size 1 by choice, of a tensor of this rank."""
        return [dim for dim in range(rank) if dim not in self.chosen]

    def list_offsets(self, rank: int) -> list[int]:
        """Return the positions of the windows' dims in the result."""
        count = rank - len(self.chosen)
        return [position if position < self.first else position + len(self.width) for position in range(count)]


@rule("aten.index.Tensor")
def _index(call: Call) -> Sequence[ir.Value] | None:
    """Lower aten::index.Tensor(self, indices) with integers counted from the start. Return None for masks."""
    given, places = call.tensor(0), _find_places(call)
    if places is None:
        return None
    shape = list(ir.RankedTensorType(given.type).shape)
    rank = len(shape)
    numbers = (f"offset_dims = {places.list_offsets(rank)}, collapsed_slice_dims = {list(places.chosen)}, "
               f"start_index_map = {list(places.chosen)}, index_vector_dim = {len(places.width)}")  # fmt: skip
    sizes = [1 if dim in places.chosen else size for dim, size in enumerate(shape)]
    attributes: dict[str, Any] = {"dimension_numbers": f"#stablehlo.gather<{numbers}>", "indices_are_sorted": "false"}
    operands = [given, places.indices]
    if _UNKNOWN not in sizes:
        text = f"array<i64: {', '.join(map(str, sizes))}>"
        return [call.make("stablehlo.gather", operands, call.result(), slice_sizes=text, **attributes)]
    ends = [call.index(1) if dim in places.chosen else call.dim(given, dim) for dim in range(rank)]
    extents = call.make("arith.index_cast", [call.extents(ends)], f"tensor<{rank}xi64>")
    return [call.make("stablehlo.dynamic_gather", [*operands, extents], call.result(), **attributes)]


@rule("aten.index_put")
def _index_put(call: Call) -> Sequence[ir.Value] | None:
    """Lower aten::index_put(self, indices, values, accumulate) with integers counted from the start. Return None for masks."""
    given, places = call.tensor(0), _find_places(call)
    if places is None:
        return None
    type_ = ir.RankedTensorType(given.type)
    windows, shape = places.list_windows(type_.rank), list(type_.shape)
    dims = [shape[dim] for dim in windows]
    sizes = [call.dim(given, dim) for dim in windows]
    dims[places.first : places.first], sizes[places.first : places.first] = places.width, places.sizes
    updates = _broadcast(call, call.tensor(2), dims, sizes)
    numbers = (f"update_window_dims = {places.list_offsets(type_.rank)}, inserted_window_dims = {list(places.chosen)}, "
               f"scatter_dims_to_operand_dims = {list(places.chosen)}, index_vector_dim = {len(places.width)}")  # fmt: skip
    return [scatter(call, given, places.indices, updates, "add" if call.constant(3) else None, numbers)]


def _find_places(call: Call) -> _Places | None:
    """Return the places that operand 1, a list of indices, selects in operand 0. Return None if it has a mask or no index."""
    given = [(dim, index) for dim, index in enumerate(call.optional_tensors(1)) if index is not None]
    if not given or any(str(ir.RankedTensorType(index.type).element_type) in _MASKS for _, index in given):
        return None
    chosen = tuple(dim for dim, _ in given)
    indices = [call.convert(index, "i64") for _, index in given]
    width, sizes = _common_shape(call, indices)
    first = chosen[0] if chosen == tuple(range(chosen[0], chosen[-1] + 1)) else 0
    return _Places(chosen, _join(call, indices, width, sizes), tuple(width), tuple(sizes), first)


def _join(call: Call, indices: Sequence[ir.Value], width: Sequence[int], sizes: Sequence[ir.Value]) -> ir.Value:
    """Return indices in one shape, side by side in a last dim if there are several."""
    if len(indices) == 1:
        return _broadcast(call, indices[0], width, sizes)
    columns = [_broadcast(call, index, [*width, 1], [*sizes, call.index(1)], 1) for index in indices]
    return call.make("stablehlo.concatenate", columns, tensor_type([*width, len(columns)], "i64"), dimension=f"{len(width)} : i64")


def _common_shape(call: Call, values: Sequence[ir.Value]) -> tuple[list[int], list[ir.Value]]:
    """Return the dims that tensors are broadcast to, and their sizes. A dim of unknown size does not broadcast."""
    rank = max(ir.RankedTensorType(value.type).rank for value in values)
    width, sizes = [1] * rank, [call.index(1)] * rank
    for value in values:
        shape = list(ir.RankedTensorType(value.type).shape)
        for position, size in enumerate(shape, rank - len(shape)):
            if width[position] in (1, _UNKNOWN) and size != 1 and (width[position] == 1 or size != _UNKNOWN):
                width[position], sizes[position] = size, call.dim(value, position - rank + len(shape))
    return width, sizes


def _broadcast(call: Call, value: ir.Value, dims: Sequence[int], sizes: Sequence[ir.Value], after: int = 0) -> ir.Value:
    """Broadcast a tensor to more dims. Its last dim becomes the last one, or that before the last `after` ones."""
    type_ = ir.RankedTensorType(value.type)
    shape, stop = list(type_.shape), len(dims) - after
    if len(shape) == len(dims) and all(size != 1 or dim == 1 for size, dim in zip(shape, dims, strict=True)):
        return value
    places = f"array<i64: {', '.join(map(str, range(stop - len(shape), stop)))}>" if shape else "array<i64>"
    return call.make("stablehlo.dynamic_broadcast_in_dim", [value, call.extents(sizes)], tensor_type(dims, str(type_.element_type)),
                     broadcast_dimensions=places)  # fmt: skip
