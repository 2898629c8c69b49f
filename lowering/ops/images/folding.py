"""Sums of overlapping windows into images: `F.fold` with dynamic sizes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch

Tensor: TypeAlias = torch.Tensor


def col2im(columns: Tensor, output_size: Sequence[Any], kernel_size: Sequence[int], dilation: Sequence[int], padding: Sequence[int],
           stride: Sequence[int]) -> Tensor:
    """Return (..., channels * kernel, windows) as (..., channels, *output_size).

    Each element of the result is the sum of the windows' elements at its position.
    """
    settings = list(zip(output_size, kernel_size, dilation, padding, stride, strict=True))
    counts = [(size + 2 * pad - step * (kernel - 1) - 1) // every + 1 for size, kernel, step, pad, every in settings]
    lead, channels = list(columns.shape[:-2]), columns.shape[-2] // (kernel_size[0] * kernel_size[1])
    return sum_windows(columns.reshape(*lead, channels, *kernel_size, *counts), settings)


def sum_windows(windows: Tensor, settings: Sequence[Sequence[Any]]) -> Tensor:
    """Sum windows (..., *kernel, *windows) to (..., *size).

    settings: size, kernel, dilation, padding, stride of each dim. An element that no window reaches is 0. No element is multiplied by 0,
    so NaN and infinities reach only the sums that they are summands of.
    """
    rank = len(settings)
    for dim, (size, *others) in enumerate(settings):
        # (..., kernel of this dim and after, sizes of the dims before, windows of this dim and after) -> one more size
        count = windows.shape[-rank + dim]
        summed = _sum_along_dim(windows.movedim((-2 * rank + dim, -rank + dim), (-2, -1)), count, size, *others)
        windows = summed.movedim(-1, -rank + dim)
    return windows


def _sum_along_dim(windows: Tensor, count: Any, size: Any, kernel: Any, dilation: int, padding: int, stride: int) -> Tensor:
    """Sum windows (..., kernel, windows) along one dim to (..., size)."""
    places = torch.arange(size, device=windows.device).unsqueeze(-1) + padding - torch.arange(kernel, device=windows.device) * dilation
    window = torch.div(places, stride, rounding_mode="floor")
    inside = (window >= 0) & (window < count) & (window * stride == places)
    index = torch.where(inside, window, 0) + torch.arange(kernel, device=windows.device) * count
    taken = windows.flatten(-2).index_select(-1, index.flatten())
    return torch.where(inside, taken.reshape(*taken.shape[:-1], size, kernel), 0).sum(-1)
