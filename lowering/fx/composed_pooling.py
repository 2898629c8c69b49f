"""Pooling functions whose forms in torch make a size a constant, composed here of forms that keep it dynamic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.nn import functional


def _max_pool1d(tensor: torch.Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
                ceil_mode: bool = False, return_indices: bool = False) -> Any:  # fmt: skip
    """Return torch.max_pool1d as a pooling over two dims. torch's own makes the length a constant, except with indices."""
    if return_indices:
        return functional.max_pool1d_with_indices(tensor, kernel_size, stride, padding, dilation, ceil_mode)

    def prepend(of_new_dim: int, setting: Any) -> list[Any]:
        return [of_new_dim, *_list(setting)]

    if _spans(tensor, 1, kernel_size, padding, dilation):
        return tensor.amax(-1, keepdim=True)
    strides = prepend(1, kernel_size if stride in (None, [], ()) else stride)
    windows = prepend(1, kernel_size), strides, prepend(0, padding), prepend(1, dilation)
    return torch.max_pool2d(tensor.unsqueeze(-2), *windows, ceil_mode).squeeze(-2)


def _make_max_pool(rank: int, original: Callable[..., Any]) -> Callable[..., Any]:
    """Return `original`, a max pooling over `rank` dims, with windows of the size of the map as one maximum."""

    def pool(tensor: torch.Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
             return_indices: bool = False) -> Any:  # fmt: skip
        if not return_indices and _spans(tensor, rank, kernel_size, padding, dilation):
            return tensor.amax(tuple(range(-rank, 0)), keepdim=True)
        settings = {"return_indices": True} if return_indices else {}
        return original(tensor, kernel_size, stride, padding, dilation, ceil_mode, **settings)

    return pool


def _make_average_pool(rank: int, original: Callable[..., Any]) -> Callable[..., Any]:
    """Return `original`, an average pooling over `rank` dims, with windows of the size of the map as one mean."""

    def pool(tensor: torch.Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
             count_include_pad: bool = True, divisor_override: int | None = None) -> Any:  # fmt: skip
        if divisor_override is None and _spans(tensor, rank, kernel_size, padding):
            return tensor.mean(tuple(range(-rank, 0)), keepdim=True)
        settings = () if rank == 1 else (divisor_override,)
        return original(tensor, kernel_size, stride, padding, ceil_mode, count_include_pad, *settings)

    return pool


def _spans(tensor: torch.Tensor, rank: int, kernel_size: Any, padding: Any, dilation: Any = 1) -> bool:
    """Return whether a window has the dynamic sizes of the map: then it is the only one."""
    kernel = _list(kernel_size) * (rank if len(_list(kernel_size)) == 1 else 1)
    if not any(isinstance(size, torch.SymInt) for size in kernel) or any(_list(padding)) or any(each != 1 for each in _list(dilation)):
        return False
    return all(statically_known_true(size == length) for size, length in zip(kernel, tensor.shape[-rank:], strict=True))


def _list(setting: Any) -> list[Any]:
    return list(setting) if isinstance(setting, list | tuple) else [setting]


COMPOSED: dict[Any, Callable[..., Any]] = {
    torch.max_pool1d: _max_pool1d, functional.max_pool1d: _max_pool1d,
    **{function: _make_max_pool(rank, function) for rank, function in ((2, functional.max_pool2d), (3, functional.max_pool3d))},
    **{function: _make_average_pool(rank, function) for rank, function in enumerate(
        (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d), 1)},
}  # fmt: skip
