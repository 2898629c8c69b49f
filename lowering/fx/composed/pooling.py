"""Pooling functions whose forms in torch make a size a constant, composed here of forms that keep it dynamic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.fx.experimental.symbolic_shapes import statically_known_true
from torch.nn import functional

from lowering.ops.images import pooling


def _max_pool1d(tensor: torch.Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1,
                ceil_mode: bool = False, return_indices: bool = False) -> Any:  # fmt: skip
    """Return torch.max_pool1d as a pooling over two dims. torch's own makes the length a constant, except with indices."""
    if return_indices:
        return functional.max_pool1d_with_indices(tensor, kernel_size, stride, padding, dilation, ceil_mode)

    def prepend(of_new_dim: int, setting: Any) -> list[Any]:
        return [of_new_dim, *repeat_setting(setting, 1)]

    if _Windows(tensor, 1, kernel_size, stride, padding, dilation).spanned:
        return tensor.amax(-1, keepdim=True)
    strides = prepend(1, kernel_size if stride in (None, [], ()) else stride)
    windows = prepend(1, kernel_size), strides, prepend(0, padding), prepend(1, dilation)
    return torch.max_pool2d(tensor.unsqueeze(-2), *windows, ceil_mode).squeeze(-2)


def _make_max_pool(rank: int, original: Callable[..., Any]) -> Callable[..., Any]:
    """Return `original`, a max pooling over `rank` dims, where a window that is as long as a dim is a maximum over it."""

    def pool(tensor: torch.Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, dilation: Any = 1, ceil_mode: bool = False,
             return_indices: bool = False) -> Any:  # fmt: skip
        windows = _Windows(tensor, rank, kernel_size, stride, padding, dilation)
        if return_indices or not windows.spanned:
            settings = {"return_indices": True} if return_indices else {}
            return original(tensor, kernel_size, stride, padding, dilation, ceil_mode, **settings)
        reduced = tensor.amax(windows.spanned, keepdim=True)
        return original(reduced, windows.sizes, windows.strides, padding, dilation, ceil_mode) if windows.is_partial else reduced

    return pool


def _make_average_pool(rank: int, original: Callable[..., Any]) -> Callable[..., Any]:
    """Return `original`, an average pooling over `rank` dims, where a window that is as long as a dim is a mean over it."""

    def pool(tensor: torch.Tensor, kernel_size: Any, stride: Any = None, padding: Any = 0, ceil_mode: bool = False,
             count_include_pad: bool = True, divisor_override: int | None = None) -> Any:  # fmt: skip
        windows, settings = _Windows(tensor, rank, kernel_size, stride, padding), () if rank == 1 else (divisor_override,)
        if divisor_override is not None or not windows.spanned:
            return original(tensor, kernel_size, stride, padding, ceil_mode, count_include_pad, *settings)
        reduced = tensor.mean(windows.spanned, keepdim=True)
        return original(reduced, windows.sizes, windows.strides, padding, ceil_mode, count_include_pad) if windows.is_partial else reduced

    return pool


def _make_adaptive_max_pool(rank: int, original: Callable[..., Any], has_indices: bool = False) -> Callable[..., Any]:
    """Return `original`, an adaptive max pooling over `rank` dims, to sizes that may be symbolic, such as that of a dim it keeps."""

    def pool(tensor: torch.Tensor, output_size: Any, return_indices: bool = False) -> Any:
        given = repeat_setting(output_size, rank)
        sizes = [kept if size is None else size for size, kept in zip(given, tensor.shape[-rank:], strict=True)]
        if not any(isinstance(size, torch.SymInt) for size in sizes):
            return original(tensor, output_size, **({} if has_indices else {"return_indices": return_indices}))
        values, places = pooling.adaptive_maximum(tensor, sizes)
        return (values, places) if has_indices or return_indices else values

    return pool


def _make_fractional_max_pool(rank: int, has_indices: bool = False) -> Callable[..., Any]:
    """Return the fractional max pooling over `rank` dims. torch's own makes the sizes constants, and has no gradient below autograd."""

    def pool(tensor: torch.Tensor, kernel_size: Any, output_size: Any = None, output_ratio: Any = None, return_indices: bool = False,
             _random_samples: torch.Tensor | None = None) -> Any:  # fmt: skip
        if output_size is None:
            ratios = repeat_setting(output_ratio, rank)
            output_size = [torch.sym_int(size * ratio) for size, ratio in zip(tensor.shape[-rank:], ratios, strict=True)]
        if _random_samples is None:
            batch = tensor.shape[0] if tensor.dim() == rank + 2 else 1
            _random_samples = torch.rand(batch, tensor.shape[-rank - 1], rank, dtype=tensor.dtype, device=tensor.device)
        values, places = pooling.fractional_maximum(tensor, kernel_size, output_size, _random_samples)
        return (values, places) if has_indices or return_indices else values

    return pool


class _Windows:
    """The windows of a pooling. spanned: dims (negative) whose dynamic size is that of a window, which is then the only one there.

    sizes, strides: those of the windows that pool the other dims, once the spanned ones are reduced. is_partial: whether there are others.
    """

    def __init__(self, tensor: torch.Tensor, rank: int, size: Any, stride: Any, padding: Any, dilation: Any = 1) -> None:
        sizes, paddings, dilations = (repeat_setting(setting, rank) for setting in (size, padding, dilation))
        strides = repeat_setting(size if stride in (None, [], ()) else stride, rank)
        self.spanned = [
            dim for dim in range(-rank, 0) if isinstance(sizes[dim], torch.SymInt) and paddings[dim] == 0 and dilations[dim] == 1
            and statically_known_true(sizes[dim] == tensor.shape[dim])]
        self.sizes, self.strides = ([1 if position - rank in self.spanned else each for position, each in enumerate(settings)]
                                    for settings in (sizes, strides))  # fmt: skip
        self.is_partial = len(self.spanned) < rank


def repeat_setting(setting: Any, rank: int) -> list[Any]:
    """Return a setting of each of `rank` spatial dims, of which a pooling or a convolution takes one for all."""
    values = list(setting) if isinstance(setting, Sequence) else [setting]
    return values * rank if len(values) == 1 else values


COMPOSED: dict[Any, Callable[..., Any]] = {
    torch.max_pool1d: _max_pool1d, functional.max_pool1d: _max_pool1d,
    **{function: _make_max_pool(rank, function) for rank, function in ((2, functional.max_pool2d), (3, functional.max_pool3d))},
    **{function: _make_average_pool(rank, function) for rank, function in enumerate(
        (functional.avg_pool1d, functional.avg_pool2d, functional.avg_pool3d), 1)},
    **{function: _make_adaptive_max_pool(rank, function) for rank, function in enumerate(
        (functional.adaptive_max_pool1d, functional.adaptive_max_pool2d, functional.adaptive_max_pool3d), 1)},
    **{function: _make_adaptive_max_pool(rank, function, has_indices=True) for rank, function in (
        (1, torch.adaptive_max_pool1d), (1, functional.adaptive_max_pool1d_with_indices),
        (2, functional.adaptive_max_pool2d_with_indices), (3, functional.adaptive_max_pool3d_with_indices))},
    functional.fractional_max_pool2d: _make_fractional_max_pool(2), functional.fractional_max_pool3d: _make_fractional_max_pool(3),
    functional.fractional_max_pool2d_with_indices: _make_fractional_max_pool(2, has_indices=True),
    functional.fractional_max_pool3d_with_indices: _make_fractional_max_pool(3, has_indices=True),
}  # fmt: skip
