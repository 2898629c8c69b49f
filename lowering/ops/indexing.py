"""Indexing by tensors of places, where negative places count from the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch.fx import Node

Tensor: TypeAlias = torch.Tensor


def by_places(node: Node) -> bool:
    """Whether a node indexes by integers alone: masks choose a number of elements that only the data tells."""
    indices = [index.meta["val"] for index in node.args[1] if index is not None]  # type: ignore[union-attr]
    return all(index.dtype not in (torch.bool, torch.uint8) for index in indices)


def index(tensor: Tensor, indices: Sequence[Tensor | None]) -> Tensor:
    """aten::index.Tensor as one index_select over the indexed dims as one."""
    chosen = [dim for dim, given in enumerate(indices) if given is not None]
    sizes = [tensor.shape[dim] for dim in chosen]
    places = torch.broadcast_tensors(*(_counted(indices[dim], tensor.shape[dim]) for dim in chosen))
    linear: Any = places[0]
    for place, size in zip(places[1:], sizes[1:], strict=True):
        linear = linear * size + place
    others = [dim for dim in range(tensor.dim()) if dim not in chosen]
    gathered = tensor.permute(chosen + others).flatten(0, len(chosen) - 1) if len(chosen) > 1 else tensor.movedim(chosen[0], 0)
    taken = gathered.index_select(0, linear.flatten())
    shape = [*linear.shape, *(tensor.shape[dim] for dim in others)]
    result = taken.reshape(shape)
    if chosen != list(range(chosen[0], chosen[-1] + 1)):
        return result  # indices apart from each other: their dims come first
    width = linear.dim()
    return result.movedim(list(range(width)), list(range(chosen[0], chosen[0] + width))) if width and chosen[0] else result


def index_put(tensor: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False) -> Tensor:
    """aten::index_put with every place counted from the start."""
    counted = [None if given is None else _counted(given, tensor.shape[dim]) for dim, given in enumerate(indices)]
    return torch.ops.aten.index_put.default(tensor, counted, values, accumulate)


def take(tensor: Tensor, places: Tensor) -> Tensor:
    """The elements at places counted over the whole tensor."""
    flat = tensor.flatten()
    return flat.index_select(0, _counted(places, flat.shape[0]).flatten()).reshape(places.shape)


def select(tensor: Tensor, dim: int, index: Any) -> Tensor:
    """aten::select at a place that only a run tells."""
    places = torch.scalar_tensor(index, dtype=torch.int64).reshape([1])
    return tensor.index_select(dim, _counted(places, tensor.shape[dim])).squeeze(dim)


def select_scatter(tensor: Tensor, source: Tensor, dim: int, index: Any) -> Tensor:
    """aten::select_scatter at any place."""
    size, place = tensor.shape[dim], torch.scalar_tensor(index, dtype=torch.int64)
    here = torch.arange(size) == torch.where(place < 0, place + size, place)
    return torch.where(here.reshape([-1, *[1] * (tensor.dim() - 1 - dim % tensor.dim())]), source.unsqueeze(dim), tensor)


def slice_(tensor: Tensor, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Tensor:
    """aten::slice from a place that only a run tells, as long as torch says."""
    length = torch.ops.aten.slice.Tensor(tensor, dim, start, end, step).shape[dim]
    places = torch.arange(length) * step + torch.scalar_tensor(start, dtype=torch.int64)
    return tensor.index_select(dim, _counted(places, tensor.shape[dim]))


def _counted(places: Tensor | None, size: Any) -> Tensor:
    assert places is not None
    places = places.to(torch.int64)
    return torch.where(places < 0, places + size, places)
