"""Tensors joined along a dim: the elements of each follow those of the one before, without padding between them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from lowering.capacity.bounds import to_expression
from lowering.capacity.rules.elementwise import fit
from lowering.capacity.rules.table import Rows
from lowering.capacity.rules.views import take
from lowering.capacity.values import Call, Counted, Dim, Tensor, plain, true_sizes

ROWS = Rows()


@ROWS.register("cat")
def _cat(call: Call, tensors: Sequence[Any], dim: int = 0) -> Tensor:
    dim %= len(call.results[0])
    if any(plain(tensor).dim() != len(call.results[0]) for tensor in tensors):
        tensors = [tensor for tensor in tensors if plain(tensor).dim() == len(call.results[0])]  # torch takes empty ones of one dim too
    parts = [fit(call, tensor, _replace_dim(call.results[0], dim, tensor)) for tensor in tensors]
    data = torch.cat(parts, dim)
    if not any(isinstance(tensor, Counted) and tensor.has(dim) for tensor in tensors):
        return data
    places = torch.arange(call.lengths()[dim])
    end, skipped = torch.zeros((), dtype=torch.int64), torch.zeros_like(places)
    for tensor in tensors[:-1]:
        true = true_sizes(tensor)[dim]
        end = end + true
        if isinstance(true, torch.Tensor):
            skipped = skipped + torch.where(places >= end, plain(tensor).shape[dim] - true, 0)
    return take(data, dim, places + skipped)


def _replace_dim(dims: Sequence[Dim], dim: int, tensor: Any) -> list[Dim]:
    """Return dims with that of a tensor in one place."""
    own = tensor.dims[dim] if isinstance(tensor, Counted) else Dim(to_expression(tensor.shape[dim]), tensor.shape[dim])
    return [*dims[:dim], own, *dims[dim + 1:]]


@ROWS.register("stack")
def _stack(call: Call, tensors: Sequence[Any], dim: int = 0) -> Tensor:
    dim %= len(call.results[0])
    dims = [*call.results[0][:dim], *call.results[0][dim + 1:]]
    return torch.stack([fit(call, tensor, dims) for tensor in tensors], dim)
