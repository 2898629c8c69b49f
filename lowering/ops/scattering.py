"""Ops that write to data-dependent indices, as one scatter."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch.fx import Node

Tensor: TypeAlias = torch.Tensor


def index_copy(tensor: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """Write the slices of `source` to those of `tensor` at `index`. Eager takes no negative index."""
    if tensor.dim() == 0:
        return index_copy(tensor.unsqueeze(0), 0, index.reshape(-1), source.reshape(-1)).squeeze(0)
    return tensor.scatter(dim, _spread(index, source, dim), source)


def index_add(tensor: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: Any = 1) -> Tensor:
    """Add the slices of `source`, times `alpha`, to those of `tensor` at `index`. Eager takes no negative index."""
    if tensor.dim() == 0:
        return index_add(tensor.unsqueeze(0), 0, index.reshape(-1), source.reshape(-1), alpha=alpha).squeeze(0)
    return tensor.scatter_add(dim, _spread(index, source, dim), source if alpha == 1 else source * alpha)


def _spread(index: Tensor, source: Tensor, dim: int) -> Tensor:
    """Return the index of each element of `source`, from one index for each of its slices along `dim`."""
    return index.reshape(-1, *(1 for _ in source.shape[dim % source.dim() + 1 :])).expand(source.shape).to(torch.int64)


def index_reduce(tensor: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *, include_self: bool = True) -> Tensor:
    """Reduce the slices of `source` into those of `tensor` at `index`."""
    if tensor.dim() == 0:
        return index_reduce(tensor.unsqueeze(0), 0, index.reshape(-1), source.reshape(-1), reduce, include_self=include_self).squeeze(0)
    places = _spread(index, source, dim)
    named = {"prod": "prod", "mean": "mean", "amin": "amin", "amax": "amax"}[reduce]
    return tensor.scatter_reduce(dim, places, source, named, include_self=include_self)


def has_larger_source(node: Node) -> bool:
    """Return whether a scatter node's source has other sizes than its index. Eager uses the first elements of the source."""
    index, source = (node.args[place].meta["val"] for place in (2, 3))  # type: ignore[union-attr]
    return index.dim() == source.dim() and tuple(index.shape) != tuple(source.shape)


def scatter_within_index(op: Any, tensor: Tensor, dim: int, index: Tensor, source: Tensor, *settings: Any, **named: Any) -> Tensor:
    """Apply the scatter `op` to the elements of `source` that have an index."""
    for place, size in enumerate(index.shape):
        source = source.narrow(place, 0, size)
    return op(tensor, dim, index, source, *settings, **named)  # type: ignore[no-any-return]


def scatter_and_reduce(tensor: Tensor, dim: int, index: Tensor, source: Any, *, reduce: str) -> Tensor:
    """Compute aten::scatter with `reduce` "add" or "multiply". source: a tensor or a number."""
    values = source if isinstance(source, torch.Tensor) else torch.full(index.shape, source, dtype=tensor.dtype)
    for place, size in enumerate(index.shape):
        values = values.narrow(place, 0, size)
    return tensor.scatter_reduce(dim, index, values, {"add": "sum", "multiply": "prod"}[reduce])


def masked_scatter(tensor: Tensor, mask: Tensor, source: Tensor) -> Tensor:
    """Write the elements of `source`, one after the other, to the elements of `tensor` where `mask` is set.

    Eager fails if the source has too few; here its last element is repeated.
    """
    shape = torch.broadcast_shapes(tensor.shape, mask.shape)
    chosen, flat = mask.expand(shape), source.flatten()
    padded = torch.cat([flat, flat.new_zeros([1])])  # so that there is one to read
    places = torch.minimum(chosen.flatten().to(torch.int64).cumsum(0) - 1, torch.scalar_tensor(flat.shape[0] - 1, dtype=torch.int64))
    return torch.where(chosen, padded.index_select(0, places.clamp(min=0)).reshape(shape), tensor)


def masked_scatter_backward(gradient: Tensor, mask: Tensor, sizes: Sequence[Any]) -> Tensor:
    """Return the gradient of the source of `masked_scatter`, of shape `sizes`: elements that were not taken have none."""
    chosen, flat = mask.expand(gradient.shape).flatten(), gradient.flatten()
    places = (chosen.to(torch.int64).cumsum(0) - 1).clamp(min=0)
    count = torch.sym_max(math.prod(sizes), 1)  # so that there is one to write
    return flat.new_zeros([count]).scatter_add(0, places, torch.where(chosen, flat, 0)).narrow(0, 0, math.prod(sizes)).reshape(sizes)


def put(tensor: Tensor, index: Tensor, source: Tensor, accumulate: bool = False) -> Tensor:
    """Write to indices into the flattened tensor. Negative indices count from the end."""
    flat, places = tensor.flatten(), index.flatten()
    places = torch.where(places < 0, places + flat.shape[0], places)
    written = flat.scatter_add(0, places, source.flatten()) if accumulate else flat.scatter(0, places, source.flatten())
    return written.reshape(tensor.shape)
