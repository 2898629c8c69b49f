"""Ops of whole networks over dims of fixed size, while others are counted."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils import _pytree as pytree

from lowering.capacity.rules.reductions import moments
from lowering.capacity.rules.table import Rows
from lowering.capacity.values import Call, Counted, NoRule, Number, Tensor, plain

ROWS = Rows()


def _only(tensor: Any, allowed: int, what: str) -> Tensor:
    """Return the data of a tensor of which data decide no dim but the first `allowed`."""
    if isinstance(tensor, Counted) and any(position >= allowed for position in tensor.counted):
        raise NoRule(f"data decide the size of a dim that {what}")
    return plain(tensor)


@ROWS.of("layer_norm", "native_layer_norm", "rms_norm", "_fused_rms_norm")
def _layer_norm(call: Call, tensor: Counted, normalized: Any, *args: Any) -> Any:
    return call.op(_only(tensor, len(tensor.dims) - len(normalized), "it normalizes over"), normalized, *args)


@ROWS.of("batch_norm")
def _batch_norm(call: Call, tensor: Counted, weight: Any, bias: Any, mean: Any, var: Any, training: bool, momentum: float,
                eps: float, *args: Any) -> Tensor:
    if tensor.has(1):
        raise NoRule("data decide the number of its channels")
    if not training:
        return call.op(tensor.data, weight, bias, mean, var, training, momentum, eps, *args)  # type: ignore[no-any-return]
    if mean is not None or var is not None:
        raise NoRule("updates statistics by those of a batch whose size data decide")
    positions = [position for position in range(len(tensor.dims)) if position != 1]
    variance, average = moments(tensor, positions, True, torch.float32)
    made = (tensor.data - average) * torch.rsqrt(variance + eps)
    shape = [1, -1, *[1] * (len(tensor.dims) - 2)]
    made = made if weight is None else made * weight.reshape(shape)
    return (made if bias is None else made + bias.reshape(shape)).to(call.dtypes[0])


@ROWS.of("group_norm", "instance_norm")
def _group_norm(call: Call, tensor: Counted, *args: Any) -> Tensor:
    return call.op(_only(tensor, 1, "it normalizes over"), *args)  # type: ignore[no-any-return]


@ROWS.of("conv1d", "conv2d", "conv3d", "convolution.default")
def _convolve(call: Call, tensor: Any, weight: Any, *args: Any) -> Tensor:
    """Convolve a tensor whose padding is zeros, as those that the op adds: each element of the result reads at most as far as these go."""
    if isinstance(weight, Counted) or any(isinstance(argument, Counted | Number) for argument in pytree.tree_leaves(args)):
        raise NoRule("data decide the size of its weight, or a number that it takes")
    if call.op is torch.ops.aten.convolution.default and args[4]:
        return call.op(_only(tensor, 1, "it has windows over"), weight, *args)  # type: ignore[no-any-return]
    if tensor.has(1 - weight.dim()):
        raise NoRule("data decide the number of its channels")
    for dim in (*tensor.dims[2 - weight.dim():], *call.results[0][2 - weight.dim():]):
        if dim.count is not None:
            call.check(dim.count > 0, "a convolution needs as many elements as its kernel has")
    return call.op(tensor.filled(0), weight, *args)  # type: ignore[no-any-return]


@ROWS.of("max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "upsample_nearest2d.vec",
         "upsample_bilinear2d.vec", "pixel_shuffle")
def _windows(call: Call, tensor: Any, *args: Any) -> Any:
    if any(isinstance(argument, Counted) for argument in args):
        raise NoRule("data decide the size of its weight")
    return call.op(_only(tensor, 1, "it has windows over"), *args)
