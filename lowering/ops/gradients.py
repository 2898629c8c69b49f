"""Backward ops that torch does not define by other ops. Each is the gradient that autograd takes of a forward in plain ops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch._decomp import decomposition_table

from lowering.ops.arithmetic import pdist
from lowering.ops.images import pooling
from lowering.ops.images.sampling import grid_sample

Tensor: TypeAlias = torch.Tensor


def average_pooling(rank: int, gradient: Tensor, tensor: Tensor, *settings: Any) -> Tensor:
    """Compute aten::avg_pool{2,3}d_backward(gradient, tensor, kernel_size, stride, ...)."""
    return _differentiate(lambda given: pooling.average(rank, given, *settings), tensor, gradient)


def adaptive_average_pooling(rank: int, gradient: Tensor, tensor: Tensor) -> Tensor:
    """Compute aten::_adaptive_avg_pool{2,3}d_backward."""
    return _differentiate(lambda given: pooling.adaptive_average(given, gradient.shape[-rank:]), tensor, gradient)


def adaptive_maximum_pooling(rank: int, gradient: Tensor, tensor: Tensor, places: Tensor) -> Tensor:
    """Compute aten::adaptive_max_pool{2,3}d_backward: each gradient is added at the index of its maximum."""
    flat = torch.zeros_like(tensor).flatten(-rank)
    return flat.scatter_add(-1, places.flatten(-rank), gradient.flatten(-rank)).reshape(tensor.shape)


def maximum_pooling(rank: int, gradient: Tensor, tensor: Tensor, kernel_size: Sequence[int], stride: Sequence[int], padding: Sequence[int],
                    dilation: Sequence[int], ceil_mode: bool, places: Tensor) -> Tensor:
    """Compute aten::max_pool{2,3}d_with_indices_backward."""
    return adaptive_maximum_pooling(rank, gradient, tensor, places)


def replication(op: Any, gradient: Tensor, tensor: Tensor, padding: Sequence[Any]) -> Tensor:
    """Compute the backward of `op`, a replication_pad."""
    return _differentiate(lambda given: decomposition_table[op](given, padding), tensor, gradient)


def upsampling(op: Any, gradient: Tensor, output_size: Sequence[Any], input_size: Sequence[Any], *settings: Any) -> Tensor:
    """Compute the backward of `op`, an upsample. The op is linear, so its gradient is the same for all inputs."""
    return _differentiate(lambda given: decomposition_table[op](given, output_size, *settings), gradient.new_zeros(input_size), gradient)


def sampling(gradient: Tensor, tensor: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool,
             output_mask: Sequence[bool]) -> tuple[Tensor, ...]:  # fmt: skip
    """Compute aten::grid_sampler_{2d,3d}_backward: the gradients of the tensor and of the grid."""
    settings = interpolation_mode, padding_mode, align_corners
    return _differentiate_all(lambda image, points: grid_sample(image, points, *settings), (tensor, grid), gradient)


def weight_norm(gradient: Tensor, direction: Tensor, size: Tensor, norms: Tensor, dim: int) -> tuple[Tensor, ...]:
    """Compute aten::_weight_norm_interface_backward: the gradients of the direction and of the size."""
    forward = decomposition_table[torch.ops.aten._weight_norm_interface.default]
    return _differentiate_all(lambda *given: forward(*given, dim)[0], (direction, size), gradient)


def distances(gradient: Tensor, tensor: Tensor, p: float, distance: Tensor) -> Tensor:
    """Compute aten::_pdist_backward."""
    return _differentiate(lambda given: pdist(given, p), tensor, gradient)


def _differentiate(forward: Callable[[Tensor], Tensor], tensor: Tensor, gradient: Tensor) -> Tensor:
    return _differentiate_all(forward, (tensor,), gradient)[0]


def _differentiate_all(forward: Callable[..., Tensor], tensors: Sequence[Tensor], gradient: Tensor) -> tuple[Tensor, ...]:
    with torch.enable_grad():
        given = [tensor.detach().requires_grad_() for tensor in tensors]
        return torch.autograd.grad(forward(*given), given, gradient, materialize_grads=True)
