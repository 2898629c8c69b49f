"""Pooling functions whose forms in torch make a size a constant, composed here of forms that keep it dynamic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional


def _max_pool1d(tensor: torch.Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
                ceil_mode: bool = False, return_indices: bool = False) -> Any:  # fmt: skip
    """Return torch.max_pool1d as a pooling over two dims. torch's own makes the length a constant, except with indices."""
    if return_indices:
        return functional.max_pool1d_with_indices(tensor, kernel_size, stride, padding, dilation, ceil_mode)

    def prepend(of_new_dim: int, setting: Any) -> list[Any]:
        return [of_new_dim, *(setting if isinstance(setting, list | tuple) else (setting,))]

    strides = prepend(1, stride if stride not in (None, [], ()) else kernel_size)
    windows = prepend(1, kernel_size), strides, prepend(0, padding), prepend(1, dilation)
    return torch.max_pool2d(tensor.unsqueeze(-2), *windows, ceil_mode).squeeze(-2)


COMPOSED: dict[Any, Callable[..., Any]] = {torch.max_pool1d: _max_pool1d, functional.max_pool1d: _max_pool1d}
