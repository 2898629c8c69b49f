"""Convolutions in terms of plain ones: transposed convolutions with weights of dynamic size, and the gradients.

A transposed convolution is a plain one over an image with zeros between its elements.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch.fx import Node

from lowering.ops import padding as edges

Tensor: TypeAlias = torch.Tensor


def is_transposed(node: Node) -> bool:
    """Return whether a convolution node is transposed and has a weight of dynamic size."""
    return bool(node.args[6]) and has_dynamic_weight(node)


def has_dynamic_weight(node: Node) -> bool:
    """Return whether a convolution node has a weight of dynamic size."""
    return any(isinstance(size, torch.SymInt) for size in node.args[1].meta["val"].shape)  # type: ignore[union-attr]


def transpose_convolution(image: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int],
                          dilation: Sequence[int],
               is_transposed: bool, output_padding: Sequence[int], groups: int) -> Tensor:
    """Compute aten::convolution with transposed=True."""
    rank = image.dim() - 2
    settings = (stride, padding, dilation, output_padding)
    stride, padding, dilation, output_padding = ([*given] * (rank if len(given) == 1 else 1) for given in settings)
    pads: list[Any] = []
    for dim in range(rank):
        image = _spread(image, dim + 2, stride[dim])
        reach = dilation[dim] * (weight.shape[dim + 2] - 1) - padding[dim]
        pads = [reach, reach + output_padding[dim], *pads]
    image = edges.pad_constant(image, pads)
    taken_in, taken_out, *kernel = weight.shape
    turned = weight.reshape(groups, taken_in // groups, taken_out, *kernel).transpose(1, 2)
    turned = turned.reshape(groups * taken_out, taken_in // groups, *kernel).flip(list(range(2, rank + 2)))
    return torch.ops.aten.convolution.default(image, turned, bias, [1] * rank, [0] * rank, dilation, False, [0] * rank, groups)


def _spread(tensor: Tensor, dim: int, step: int) -> Tensor:
    """Insert `step - 1` zeros between neighbours along a dim."""
    if step == 1:
        return tensor
    places = torch.arange((tensor.shape[dim] - 1) * step + 1, device=tensor.device)
    is_taken = (torch.remainder(places, step) == 0).reshape(-1, *(1 for _ in tensor.shape[dim + 1 :]))
    return torch.where(is_taken, tensor.index_select(dim, torch.div(places, step, rounding_mode="floor")), 0)


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
                     dilation: Sequence[int],
               groups: int) -> Tensor:
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
