"""Convolutions in a dynamic number of groups, transposed ones with weights or an output padding of dynamic size, and gradients."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch.fx import Node

from lowering.ops.images import folding
from lowering.ops.node_forms import find_argument, has_dynamic_sizes

Tensor: TypeAlias = torch.Tensor


def is_transposed(node: Node) -> bool:
    """Return whether a convolution node is transposed, and has a weight of dynamic size or paddings that torch-mlir does not lower."""
    return bool(node.args[6]) and (has_dynamic_weight(node) or has_dynamic_sizes(node) or has_uneven_padding(node))


def has_dynamic_groups(node: Node) -> bool:
    """Return whether a convolution node has a number of groups that is a size, a constant in HLO, and a kernel of constant size."""
    kernel = node.args[1].meta["val"].shape[2:]  # type: ignore[union-attr]
    return isinstance(find_argument(node, "groups"), Node) and not any(isinstance(size, torch.SymInt) for size in kernel)


def has_own_form(node: Node) -> bool:
    """Return whether `convolve` computes a convolution node."""
    return is_transposed(node) or (not node.args[6] and has_dynamic_groups(node))


def has_uneven_padding(node: Node) -> bool:
    """Return whether the output padding is not the same for all dims: torch-mlir adds it to the dims in reverse."""
    return len(set(find_argument(node, "output_padding"))) > 1


def has_dynamic_weight(node: Node) -> bool:
    """Return whether a convolution node has a weight of dynamic size."""
    return any(isinstance(size, torch.SymInt) for size in node.args[1].meta["val"].shape)  # type: ignore[union-attr]


def is_unbatched(node: Node) -> bool:
    """Return whether a convolution node takes an image without a batch dim."""
    image, weight = (argument.meta["val"] for argument in node.args[:2])  # type: ignore[union-attr]
    return image.dim() == weight.dim() - 1  # type: ignore[no-any-return]


def needs_decomposition(node: Node) -> bool:
    """Return whether a composite transposed convolution has no batch dim, or a form that `is_transposed` names."""
    return has_dynamic_weight(node) or has_dynamic_sizes(node) or has_uneven_padding(node) or is_unbatched(node)


def is_unusual(node: Node) -> bool:
    """Return whether a composite convolution has no batch dim, or a number of groups that is a size."""
    return is_unbatched(node) or has_dynamic_groups(node)


def convolve_whole(op: Callable[..., Any], image: Tensor, weight: Tensor, bias: Tensor | None = None, stride: Sequence[int] = (1,),
                   padding: Sequence[int] = (0,), dilation: Sequence[int] = (1,), groups: int = 1) -> Tensor:
    """Compute a composite convolution in the forms that `is_unusual` names. One image is a batch of one."""
    if image.dim() < weight.dim():
        return convolve_whole(op, image.unsqueeze(0), weight, bias, stride, padding, dilation, groups).squeeze(0)
    if isinstance(groups, torch.SymInt):
        return convolve_in_groups(image, weight, bias, stride, padding, dilation, groups)
    return op(image, weight, bias, stride, padding, dilation, groups)  # type: ignore[no-any-return]


def convolve_by_time(image: Tensor, weight: Tensor, bias: Tensor, pad: int = 0) -> Tensor:
    """Compute aten::conv_tbc: a convolution of (time, batch, channels) with (width, channels, outputs)."""
    return torch.conv1d(image.permute(1, 2, 0), weight.permute(2, 1, 0), bias, padding=pad).permute(2, 0, 1)


def convolve(image: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
             is_transposed: bool, output_padding: Sequence[int], groups: int) -> Tensor:
    """Compute aten::convolution in the forms that `has_own_form` names."""
    if is_transposed:
        return transpose_convolution(image, weight, bias, stride, padding, dilation, is_transposed, output_padding, groups)
    return convolve_in_groups(image, weight, bias, stride, padding, dilation, groups)


def convolve_in_groups(image: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int],
                       dilation: Sequence[int], groups: int) -> Tensor:
    """Compute a convolution in any number of groups: a matmul of each group's windows (batch, groups, channels * kernel, positions)."""
    batch, sizes = image.shape[0], image.shape[2:]
    rank = len(sizes)
    stride, padding, dilation = ([*given] * (rank if len(given) == 1 else 1) for given in (stride, padding, dilation))
    outputs, inputs, *kernel = weight.shape
    counts = [(size + 2 * pad - step * (taken - 1) - 1) // every + 1
              for size, pad, step, taken, every in zip(sizes, padding, dilation, kernel, stride, strict=True)]
    padded = torch.constant_pad_nd(image, [edge for pad in reversed(padding) for edge in (pad, pad)]) if any(padding) else image
    windows = []
    for place in itertools.product(*map(range, kernel)):
        window = padded
        for dim, (number, step, count, every) in enumerate(zip(place, dilation, counts, stride, strict=True), start=2):
            start = number * step
            window = torch.ops.aten.slice.Tensor(window, dim, start, start + (count - 1) * every + 1, every)
        windows.append(window.reshape(batch, groups, inputs, math.prod(counts)))
    rows = weight.reshape(groups, outputs // groups, inputs, math.prod(kernel)).movedim(3, 2).flatten(2)
    result = torch.matmul(rows, torch.cat(windows, 2)).reshape(batch, outputs, *counts)
    return result if bias is None else result + bias.reshape(-1, *[1] * rank)


def transpose_convolution(image: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int],
                          dilation: Sequence[int], is_transposed: bool, output_padding: Sequence[int], groups: int) -> Tensor:
    """Compute aten::convolution with transposed=True, as eager does: a matmul over channels, then a sum of overlapping windows.

    Where the weight has a constant size, zeros after the image make room for the output padding, and the result is cut.
    """
    rank = image.dim() - 2
    settings = (stride, padding, dilation, output_padding)
    stride, padding, dilation, output_padding = ([*given] * (rank if len(given) == 1 else 1) for given in settings)
    sizes = [(count - 1) * every - 2 * pad + step * (size - 1) + more + 1 for count, every, pad, step, size, more
             in zip(image.shape[2:], stride, padding, dilation, weight.shape[2:], output_padding, strict=True)]
    if not any(isinstance(size, torch.SymInt) for size in weight.shape):
        most = [max(every, step) - 1 if isinstance(more, torch.SymInt) else more
                for every, step, more in zip(stride, dilation, output_padding, strict=True)]
        behind = [edge for more, every in zip(most, stride, strict=True) for edge in (-(-more // every), 0)]
        padded = torch.constant_pad_nd(image, behind[::-1])
        whole = torch.ops.aten.convolution.default(padded, weight, bias, stride, padding, dilation, True, [0] * rank, groups)
        return _cut(whole, sizes)
    batch, taken_in, *counts = image.shape
    taken_out, *kernel = weight.shape[1:]
    lines = image.reshape(batch, groups, taken_in // groups, math.prod(counts))
    rows = weight.reshape(groups, taken_in // groups, taken_out * math.prod(kernel))
    windows = torch.matmul(rows.transpose(1, 2), lines).reshape(batch, groups * taken_out, *kernel, *counts)
    result = folding.sum_windows(windows, list(zip(sizes, kernel, dilation, padding, stride, strict=True)))
    return result if bias is None else result + bias.reshape(-1, *[1] * rank)


def backward(gradient: Tensor, image: Tensor, weight: Tensor, bias_sizes: Sequence[int] | None, stride: Sequence[int],
             padding: Sequence[int], dilation: Sequence[int], is_transposed: bool, output_padding: Sequence[int], groups: int,
             output_mask: Sequence[bool]) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Compute aten::convolution_backward: the gradients of image, weight and bias, each None if it is not requested."""
    rank = image.dim() - 2
    stride, padding, dilation = ([*given] * (rank if len(given) == 1 else 1) for given in (stride, padding, dilation))
    by_image = by_weight = by_bias = None
    if output_mask[0]:
        # A strided convolution skips elements that do not fill a window. Pad for them, then cut to the size of the image.
        room = [0] * rank if is_transposed else [step - 1 for step in stride]
        by_image = torch.ops.aten.convolution.default(gradient, weight, None, stride, padding, dilation, not is_transposed, room, groups)
        by_image = _cut(by_image, image.shape[2:])
    if output_mask[1]:
        slid, window = (gradient, image) if is_transposed else (image, gradient)
        by_weight = _weight_gradient(slid, window, weight.shape[2:], stride, padding, dilation, groups)
    if output_mask[2]:
        by_bias = gradient.sum([0, *range(2, rank + 2)])
    return by_image, by_weight, by_bias


def _weight_gradient(slid: Tensor, window: Tensor, kernel: Sequence[Any], stride: Sequence[int], padding: Sequence[int],
                     dilation: Sequence[int], groups: int) -> Tensor:
    """Compute (batch, groups * taken_in, ...), (batch, groups * taken_out, ...) -> (groups * taken_out, taken_in, *kernel).

    The gradient sums over steps of the kernel where the convolution sums over positions. Therefore stride and dilation are swapped, as are
    batch and channels.
    """
    batch, channels, *sizes = slid.shape
    rest = list(range(3, slid.dim() + 1))
    moved = slid.reshape(batch, groups, channels // groups, *sizes).permute(2, 1, 0, *rest)
    moved = moved.reshape(channels // groups, groups * batch, *sizes)
    found = torch.ops.aten.convolution.default(
        moved, window.transpose(0, 1), None, dilation, padding, stride, False, [0] * len(sizes), groups
    )
    return _cut(found, kernel).transpose(0, 1)


def _cut(tensor: Tensor, sizes: Sequence[Any]) -> Tensor:
    """Return the first `sizes` elements of each spatial dim."""
    for dim, size in enumerate(sizes, 2):
        tensor = tensor.narrow(dim, 0, size)
    return tensor
