"""Scaled dot product attention in plain ops, in every form of its schema."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import torch

Tensor: TypeAlias = torch.Tensor


def scaled_dot_product(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    *,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Return softmax(query @ key^T * scale + mask) @ value over (..., heads, length, width), as torch documents it.

    A row that is masked completely gives zeros. Raises NotImplementedError for dropout_p > 0.
    """
    if dropout_p > 0.0:
        raise NotImplementedError("scaled_dot_product_attention with dropout draws random numbers")
    if enable_gqa:
        key, value = (_repeat_heads(tensor, query.shape[-3] // tensor.shape[-3]) for tensor in (key, value))
    factor = _default_scale(query.shape[-1]) if scale is None else scale
    scores = torch.matmul(query * factor, key.transpose(-2, -1))
    if is_causal:  # eager skips what is masked, NaN included
        rows = torch.arange(query.shape[-2], device=query.device).unsqueeze(-1)
        scores = torch.where(rows >= torch.arange(key.shape[-2], device=query.device), scores, -math.inf)
    elif attn_mask is not None:  # eager adds masks, NaN of what is masked remains
        scores = scores + (torch.where(attn_mask, 0.0, -math.inf).to(scores.dtype) if attn_mask.dtype is torch.bool else attn_mask)
    return torch.matmul(softmax_or_zeros(scores) if is_causal or attn_mask is not None else torch.softmax(scores, -1), value)


def _default_scale(size: Any) -> Any:
    """Return one over the square root of a size. math.sqrt would make a dynamic size static."""
    return torch.scalar_tensor(size, dtype=torch.float64).rsqrt() if isinstance(size, torch.SymInt) else 1 / math.sqrt(size)


def softmax_or_zeros(scores: Tensor) -> Tensor:
    """Return the softmax along the last dim, and zeros for rows of -inf."""
    return torch.where((scores == -math.inf).all(-1, keepdim=True), 0.0, torch.softmax(scores, -1))


def _repeat_heads(tensor: Tensor, times: int) -> Tensor:
    shape = tensor.shape
    repeated = tensor.unsqueeze(-3).expand(*shape[:-2], times, *shape[-2:])
    return repeated.reshape(*shape[:-3], shape[-3] * times, *shape[-2:])
