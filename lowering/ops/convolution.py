"""Transposed convolution whose weight has dynamic dims, as a plain one over an image with zeros between its places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch.fx import Node

from lowering.ops import padding as edges

Tensor: TypeAlias = torch.Tensor


def is_transposed(node: Node) -> bool:
    """Whether a convolution node is transposed, with a weight of dynamic size."""
    return bool(node.args[6]) and has_dynamic_weight(node)


def has_dynamic_weight(node: Node) -> bool:
    return any(isinstance(size, torch.SymInt) for size in node.args[1].meta["val"].shape)  # type: ignore[union-attr]


def transposed(image: Tensor, weight: Tensor, bias: Tensor | None, stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
               is_transposed: bool, output_padding: Sequence[int], groups: int) -> Tensor:
    """aten::convolution with transposed=True."""
    rank = image.dim() - 2
    stride, padding, dilation, output_padding = ([*given] * (rank if len(given) == 1 else 1) for given in (stride, padding, dilation, output_padding))
    pads: list[Any] = []
    for dim in range(rank):
        image = _spread(image, dim + 2, stride[dim])
        reach = dilation[dim] * (weight.shape[dim + 2] - 1) - padding[dim]
        pads = [reach, reach + output_padding[dim], *pads]
    image = edges.constant(image, pads)
    taken_in, taken_out, *kernel = weight.shape
    turned = weight.reshape(groups, taken_in // groups, taken_out, *kernel).transpose(1, 2).reshape(groups * taken_out, taken_in // groups, *kernel)
    turned = turned.flip(list(range(2, rank + 2)))
    return torch.ops.aten.convolution.default(image, turned, bias, [1] * rank, [0] * rank, dilation, False, [0] * rank, groups)


def _spread(tensor: Tensor, dim: int, step: int) -> Tensor:
    """`step - 1` zeros between neighbours along a dim."""
    if step == 1:
        return tensor
    places = torch.arange((tensor.shape[dim] - 1) * step + 1, device=tensor.device)
    is_taken = (torch.remainder(places, step) == 0).reshape(-1, *(1 for _ in tensor.shape[dim + 1 :]))
    return torch.where(is_taken, tensor.index_select(dim, torch.div(places, step, rounding_mode="floor")), 0)
