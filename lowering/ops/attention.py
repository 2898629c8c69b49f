"""Scaled dot product attention in plain ops, in every form of its schema."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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

    A row of scores that are all -inf, such as one that is masked completely, gives zeros. Raises NotImplementedError for dropout_p > 0.
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
    if is_causal or attn_mask is not None:
        return torch.matmul(softmax_or_zeros(scores), value)
    attended = torch.matmul(torch.softmax(scores, -1), value)
    if isinstance(key.shape[-2], int) and key.shape[-2] == 0:
        return attended
    # rows of -inf without a mask are rare: asked of the maximum, which the softmax needs too, this costs least
    return torch.where(scores.amax(-1, keepdim=True) == -math.inf, 0.0, attended)


def flexible(query: Tensor, key: Tensor, value: Tensor, score_mod: Callable[..., Tensor], block_mask: Sequence[Any], scale: float,
             kernel_options: Any, score_mod_other_buffers: Any = (), mask_mod_other_buffers: Any = ()) -> tuple[Tensor, Tensor, Tensor]:
    """Compute `flex_attention` on (batch, heads, length, width) with the scores of all pairs, as eager does without a compiler.

    The modifications take the scores and the four indices as tensors that broadcast, where eager takes numbers under vmap. Return the
    output, and the log-sum-exp and the maximum of the scores, both in units of log(2). Raises NotImplementedError if a modification does
    not broadcast.
    """
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = _repeat_heads(key, groups), _repeat_heads(value, groups)
    precision = torch.float64 if query.dtype == torch.float64 else torch.float32
    scores = torch.matmul(query.to(precision), key.to(precision).transpose(-2, -1)) * scale
    indices = [torch.arange(size, device=query.device).reshape(-1, *[1] * (3 - dim)) for dim, size in enumerate(scores.shape)]
    mask, modified = block_mask[-1](*indices), score_mod(scores, *indices)
    if max(mask.dim(), modified.dim()) > scores.dim():
        raise NotImplementedError("flex_attention: its modifications must broadcast; write table[b, q] for table[b][q]")
    scores = torch.where(mask, modified, -math.inf).to(precision)
    weights = softmax_or_zeros(scores).to(query.dtype)
    return torch.matmul(weights, value.to(query.dtype)), scores.logsumexp(-1) / math.log(2), scores.amax(-1) / math.log(2)


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
