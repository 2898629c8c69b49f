"""Embedding bags: sums, means and maxima of rows of a table. The offsets determine the number of rows in each bag."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch.fx import Node

Tensor: TypeAlias = torch.Tensor

SUM, MEAN, MAX = 0, 1, 2


def uses_only_bags(node: Node) -> bool:
    """Return whether only the bags of the op's results are used, and not the results for its backward."""
    return all(user.target is operator.getitem and (user.args[1] == 0 or not user.users) for user in node.users)


def choose_differentiable(node: Node) -> Callable[..., Any] | None:
    """Return a definition of an embedding bag that autograd can differentiate.

    Return None for other nodes, and if counts of indices scale the gradient.
    """
    if node.target not in (torch.ops.aten.embedding_bag.default, torch.ops.aten.embedding_bag.padding_idx):
        return None
    is_scaled = node.args[3] if len(node.args) > 3 else node.kwargs.get("scale_grad_by_freq", False)
    return embedding_bag if uses_only_bags(node) and not is_scaled else None


def embedding_bag(weight: Tensor, indices: Tensor, offsets: Tensor, scale_grad_by_freq: bool = False, mode: int = SUM, sparse: bool = False,
                  per_sample_weights: Tensor | None = None, include_last_offset: bool = False,
                  padding_idx: int | None = -1, counted: Tensor | None = None) -> tuple[Tensor, ...]:
    """Return bags (bags, features). A bag without rows is 0.

    counted: which indices are no padding (all by default).

    Each index belongs to the last bag that begins at or before it. The other results differ from the op's (see `uses_only_bags`).
    """
    starts = offsets.narrow(0, 0, offsets.shape[0] - 1) if include_last_offset else offsets
    places = torch.arange(indices.shape[0], device=indices.device)
    bag = (starts.to(torch.int64) <= places.unsqueeze(1)).sum(1) - 1
    rows = weight.index_select(0, indices.to(torch.int64))
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.unsqueeze(1)
    counts = torch.ones_like(places)
    has_padding = padding_idx is not None and padding_idx >= 0
    if has_padding or counted is not None:
        kept = indices != padding_idx if has_padding else torch.ones_like(indices, dtype=torch.bool)
        kept = kept if counted is None else kept & counted
        counts = kept.to(torch.int64)
        rows = torch.where(kept.unsqueeze(1), rows, float("-inf") if mode == MAX else 0)
    empty = weight.new_zeros([starts.shape[0], weight.shape[1]])
    of_bags = places.new_zeros([starts.shape[0]]).index_add(0, bag, counts).unsqueeze(1)
    if mode == MAX:
        largest = empty.scatter_reduce(0, bag.unsqueeze(1).expand(rows.shape), rows, "amax", include_self=False)
        return torch.where(of_bags > 0, largest, 0), bag, bag, bag
    sums = empty.index_add(0, bag, rows)
    return (sums / of_bags.clamp(min=1).to(sums.dtype) if mode == MEAN else sums), bag, bag, bag
