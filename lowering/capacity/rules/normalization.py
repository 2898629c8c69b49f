"""Ops of whole networks over dims of fixed size, while others are counted."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils import _pytree as pytree

from lowering.capacity.rules.reductions import average, moments
from lowering.capacity.rules.table import Rows
from lowering.capacity.values import Call, Counted, NoRule, Number, Tensor, plain

ROWS = Rows()


def _only(tensor: Any, allowed: int, what: str) -> Tensor:
    """Return the data of a tensor of which data decide no dim but the first `allowed`."""
    if isinstance(tensor, Counted) and any(position >= allowed for position in tensor.counted):
        raise NoRule(f"data decide the size of a dim that {what}")
    return plain(tensor)


@ROWS.register("native_layer_norm", "_fused_rms_norm")
def _native_norm(call: Call, tensor: Counted, normalized: Any, *args: Any) -> Any:
    return call.op(_only(tensor, len(tensor.dims) - len(normalized), "it normalizes over"), normalized, *args)


@ROWS.register("layer_norm")
def _layer_norm(call: Call, tensor: Any, normalized: Any, weight: Any = None, bias: Any = None, eps: float = 1e-5, *args: Any) -> Tensor:
    if (positions := _list_counted_tail(tensor, normalized)) is None:
        return call.op(plain(tensor), normalized, weight, bias, eps, *args)  # type: ignore[no-any-return]
    variance, mean = moments(tensor, positions, True, _widen(call))
    return _scale((tensor.data - mean) * torch.rsqrt(variance + eps), weight, bias).to(call.dtypes[0])


@ROWS.register("rms_norm")
def _rms_norm(call: Call, tensor: Any, normalized: Any, weight: Any = None, eps: float | None = None) -> Tensor:
    if (positions := _list_counted_tail(tensor, normalized)) is None:
        return call.op(plain(tensor), normalized, weight, eps)  # type: ignore[no-any-return]
    wide = tensor.data.to(_widen(call))
    squares = average(Counted(wide * wide, tensor.dims), positions, True, wide.dtype)
    least = torch.finfo(call.dtypes[0]).eps if eps is None else eps
    return _scale(wide * torch.rsqrt(squares + least), weight, None).to(call.dtypes[0])


def _list_counted_tail(tensor: Any, normalized: Any) -> list[int] | None:
    """Return the last dims, which are normalized over, if data decide the size of one; else None."""
    if not isinstance(tensor, Counted):
        return None
    positions = list(range(len(tensor.dims) - len(normalized), len(tensor.dims)))
    return positions if any(map(tensor.has, positions)) else None


def _widen(call: Call) -> torch.dtype:
    return torch.promote_types(call.dtypes[0], torch.float32)


def _scale(tensor: Tensor, weight: Any, bias: Any) -> Tensor:
    tensor = tensor if weight is None else tensor * plain(weight)
    return tensor if bias is None else tensor + plain(bias)


@ROWS.register("batch_norm")
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


@ROWS.register("group_norm", "instance_norm")
def _group_norm(call: Call, tensor: Counted, *args: Any) -> Tensor:
    return call.op(_only(tensor, 1, "it normalizes over"), *args)  # type: ignore[no-any-return]


@ROWS.register("conv1d", "conv2d", "conv3d", "convolution.default")
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
    return call.op(tensor.fill(0), weight, *args)  # type: ignore[no-any-return]


@ROWS.register("max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d",
               "upsample_nearest2d.vec", "upsample_bilinear2d.vec", "pixel_shuffle")
def _windows(call: Call, tensor: Any, *args: Any) -> Any:
    if any(isinstance(argument, Counted) for argument in args):
        raise NoRule("data decide the size of its weight")
    return call.op(_only(tensor, 1, "it has windows over"), *args)
