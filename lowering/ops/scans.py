"""Cumulative sums at dynamic lengths, in ops that every level has."""

from __future__ import annotations

import torch

Tensor = torch.Tensor


def cumsum(tensor: Tensor, dim: int, *, dtype: torch.dtype | None = None) -> Tensor:
    """Running sums along `dim`, as a masked reduction: quadratic in the length, but fused by compilers, and no 0 * inf."""
    if dtype is None:
        dtype = torch.int64 if not tensor.dtype.is_floating_point and not tensor.dtype.is_complex else tensor.dtype
    if tensor.dim() == 0:
        return tensor.to(dtype, copy=True)
    moved = tensor.to(dtype).transpose(dim, -1)
    places = torch.arange(moved.shape[-1], device=tensor.device)
    counted = places.unsqueeze(-1) <= places  # [from, to]
    return torch.where(counted, moved.unsqueeze(-1), 0).sum(-2, dtype=dtype).transpose(dim, -1)
