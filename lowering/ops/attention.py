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
    if is_causal:
        rows = torch.arange(query.shape[-2], device=query.device).unsqueeze(-1)
        attn_mask = rows >= torch.arange(key.shape[-2], device=query.device)
    return torch.matmul(_masked_softmax(scores, attn_mask), value)


def _default_scale(size: Any) -> Any:
    """Return one over the square root of a size. math.sqrt would make a dynamic size static."""
    return torch.scalar_tensor(size, dtype=torch.float64).rsqrt() if isinstance(size, torch.SymInt) else 1 / math.sqrt(size)


def _masked_softmax(scores: Tensor, mask: Tensor | None) -> Tensor:
    if mask is None:
        return torch.softmax(scores, -1)
    if mask.dtype is torch.bool:
        kept = torch.where(mask, scores, torch.finfo(scores.dtype).min)
        return torch.where(mask, torch.softmax(kept, -1), 0.0)
    scores = scores + mask
    return torch.where((scores == -math.inf).all(-1, keepdim=True), 0.0, torch.softmax(scores, -1))


def _repeat_heads(tensor: Tensor, times: int) -> Tensor:
    shape = tensor.shape
    repeated = tensor.unsqueeze(-3).expand(*shape[:-2], times, *shape[-2:])
    return repeated.reshape(*shape[:-3], shape[-3] * times, *shape[-2:])
