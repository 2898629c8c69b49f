"""Indexing by tensors of indices, where negative indices count from the end."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch.fx import Node

from lowering.ops.node_forms import find_argument

Tensor: TypeAlias = torch.Tensor


_MASKS = (torch.bool, torch.uint8)


def has_integer_indices(node: Node) -> bool:
    """Return whether a node is indexed by integers only. A mask selects a data-dependent number of elements."""
    return all(index.dtype not in _MASKS for index in _read_indices(node))


def puts_by_mask(node: Node) -> bool:
    """Return whether an index_put node has a mask as its only index, and values that do not depend on the number of selected elements."""
    masks, values = _read_indices(node), node.args[2].meta["val"]  # type: ignore[union-attr]
    if len(masks) != 1 or masks[0].dtype not in _MASKS:
        return False
    before = next(dim for dim, index in enumerate(node.args[1]) if index is not None)  # type: ignore[arg-type]
    after = node.args[0].meta["val"].dim() - before - masks[0].dim()  # type: ignore[union-attr]
    if values.dim() <= after:
        return True
    chosen = values.shape[values.dim() - 1 - after]
    return isinstance(chosen, int) and chosen == 1


def can_put(node: Node) -> bool:
    """Return whether `index_put` below can decompose a node."""
    return has_integer_indices(node) or puts_by_mask(node)


def _read_indices(node: Node) -> list[Tensor]:
    return [index.meta["val"] for index in node.args[1] if index is not None]  # type: ignore[union-attr]


def index(tensor: Tensor, indices: Sequence[Tensor | None]) -> Tensor:
    """Compute aten::index.Tensor with all indices counted from the start."""
    counted = [None if given is None else _count_from_start(given, tensor.shape[dim]) for dim, given in enumerate(indices)]
    return torch.ops.aten.index.Tensor(tensor, counted)  # type: ignore[no-any-return]


def index_put(tensor: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False) -> Tensor:
    """Compute aten::index_put with all indices counted from the start.

    With a mask (see `puts_by_mask`), it selects between old and new elements.
    """
    masks = [(dim, given) for dim, given in enumerate(indices) if given is not None and given.dtype in _MASKS]
    if masks:
        return _put_by_mask(tensor, *masks[0], values, accumulate)
    counted = [None if given is None else _count_from_start(given, tensor.shape[dim]) for dim, given in enumerate(indices)]
    if values.dim() > 0:
        shape = _compute_indexed_shape(tensor, counted)
        values = values.expand(shape) if values.dim() < len(shape) else values
    return torch.ops.aten.index_put.default(tensor, counted, values, accumulate)


def index_fill(tensor: Tensor, dim: int, index: Tensor, value: Any) -> Tensor:
    """Write a number, or a 0-d tensor, to the slices along `dim` at `index`. Negative indices count from the end."""
    if tensor.dim() == 0:
        return index_fill(tensor.unsqueeze(0), 0, index, value).squeeze(0)
    value = value.to(tensor.dtype) if isinstance(value, torch.Tensor) else torch.full_like(tensor.new_empty([]), value)
    return torch.ops.aten.index_put.default(tensor, [*[None] * (dim % tensor.dim()), index.reshape(-1)], value)  # type: ignore[no-any-return]


def _compute_indexed_shape(tensor: Tensor, indices: Sequence[Tensor | None]) -> list[Any]:
    """Return the shape of `tensor[indices]`. The dims of the indices come first if the indices are not adjacent."""
    chosen = [dim for dim, given in enumerate(indices) if given is not None]
    width = torch.broadcast_shapes(*(given.shape for given in indices if given is not None))
    first = chosen[0] if chosen == list(range(chosen[0], chosen[-1] + 1)) else 0
    others = [tensor.shape[dim] for dim in range(tensor.dim()) if dim not in chosen]
    return [*others[:first], *width, *others[first:]]


def _put_by_mask(tensor: Tensor, dim: int, mask: Tensor, values: Tensor, accumulate: bool) -> Tensor:
    """Return `tensor` with `values` where `mask` is set. The mask covers the dims from `dim` on."""
    after = tensor.dim() - dim - mask.dim()
    if values.dim() > after:  # the dim of the selected elements becomes the dims of the mask
        place = values.dim() - 1 - after
        values = values.squeeze(place)
        for _ in range(mask.dim()):
            values = values.unsqueeze(place)
    chosen = mask.to(torch.bool).reshape([*mask.shape, *[1] * after])
    return torch.where(chosen, tensor + values if accumulate else values, tensor)


def take(tensor: Tensor, places: Tensor) -> Tensor:
    """Return the elements at indices into the flattened tensor."""
    flat = tensor.flatten()
    return flat.index_select(0, _count_from_start(places, flat.shape[0]).flatten()).reshape(places.shape)


def select(tensor: Tensor, dim: int, index: Any) -> Tensor:
    """Compute aten::select at an index that is only known at run time."""
    places = torch.scalar_tensor(index, dtype=torch.int64).reshape([1])
    return tensor.index_select(dim, _count_from_start(places, tensor.shape[dim])).squeeze(dim)


def has_step(node: Node) -> bool:
    """Return whether a slice_scatter node writes to indices that are not adjacent."""
    return len(node.args) > 5 and node.args[5] != 1


def slice_scatter(tensor: Tensor, source: Tensor, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Tensor:
    """Compute aten::slice_scatter with any step. The source has the size of the slice."""
    dim = dim % tensor.dim()
    places = torch.arange(source.shape[dim], device=tensor.device) * step + bound(start, 0, tensor.shape[dim])
    return tensor.scatter(dim, places.reshape([-1, *[1] * (tensor.dim() - 1 - dim)]).expand(source.shape), source)


def bound(given: Any, default: Any, size: Any) -> Any:
    """Return a bound of a slice as eager reads it: counted from the end if negative, then clamped to the dim."""
    if given is None or (isinstance(given, int) and given == sys.maxsize):
        return default if given is None else size
    if isinstance(given, int):
        return torch.sym_min(given, size) if given >= 0 else torch.sym_max(size + given, 0)
    # the sign of a bound that is a size is unknown at trace time, and must not be guarded on
    place = torch.scalar_tensor(given, dtype=torch.int64)
    counted = torch.where(place < 0, place + size, place)
    return torch.clamp(counted, min=0).minimum(torch.scalar_tensor(size, dtype=torch.int64))


def roll(tensor: Tensor, shifts: Sequence[Any], dims: Sequence[int] = ()) -> Tensor:
    """Compute aten::roll by shifts of any sign and length. Without dims, the flattened tensor is rolled."""
    if not dims:
        return roll(tensor.flatten(), shifts, [0]).reshape(tensor.shape)
    for shift, dim in zip(shifts, dims, strict=True):
        size = tensor.shape[dim]
        tensor = tensor.index_select(dim, torch.remainder(torch.arange(size, device=tensor.device) - shift, size))
    return tensor


def slice_(tensor: Tensor, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Tensor:
    """Compute aten::slice from a start that is only known at run time. torch determines its length."""
    length = torch.ops.aten.slice.Tensor(tensor, dim, start, end, step).shape[dim]
    places = torch.arange(length) * step + torch.scalar_tensor(start, dtype=torch.int64)
    return tensor.index_select(dim, _count_from_start(places, tensor.shape[dim]))


def selects_nothing(node: Node) -> bool:
    """Return whether the index of an index_select node has no elements."""
    count = node.args[2].meta["val"].numel()  # type: ignore[union-attr]
    return isinstance(count, int) and count == 0


def has_settings_of_training(node: Node) -> bool:
    """Return whether an embedding scales its gradient, or has a sparse one."""
    return any(find_argument(node, name) for name in ("scale_grad_by_freq", "sparse"))


def embedding(weight: Tensor, indices: Tensor, padding_idx: int = -1, scale_grad_by_freq: bool = False, sparse: bool = False) -> Tensor:
    """Compute aten::embedding, whose settings concern its gradient alone."""
    return torch.ops.aten.embedding.default(weight, indices)


def select_nothing(tensor: Tensor, dim: int, index: Tensor) -> Tensor:
    """Return the first 0 elements of a dim."""
    return tensor.narrow(dim, 0, 0)


def _count_from_start(places: Tensor | None, size: Any) -> Tensor:
    assert places is not None
    places = places.to(torch.int64)
    return torch.where(places < 0, places + size, places)


def nonzero_static(tensor: Tensor, *, size: int, fill_value: int = -1) -> Tensor:
    """Return the indices of the first `size` elements that are not 0, (size, rank), and `fill_value` where there are fewer."""
    mask = (tensor != 0).flatten()
    count = mask.to(torch.int64).cumsum(0)
    slots = torch.arange(size, device=tensor.device)
    targets = torch.where(mask & (count <= size), count - 1, size)  # the last slot takes all others
    numbers = torch.arange(mask.shape[0], device=tensor.device)
    flat = torch.zeros(size + 1, dtype=torch.int64, device=tensor.device).scatter(0, targets, numbers)[:size]
    indices = []
    for length in [torch.sym_max(length, 1) for length in reversed(tensor.shape)]:
        indices.append(torch.remainder(flat, length))
        flat = torch.div(flat, length, rounding_mode="floor")
    if not indices:
        return torch.zeros(size, 0, dtype=torch.int64, device=tensor.device)
    is_there = (slots < mask.to(torch.int64).sum()).unsqueeze(-1)
    return torch.where(is_there, torch.stack(indices[::-1], -1), fill_value)
