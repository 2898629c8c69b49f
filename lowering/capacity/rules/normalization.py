"""Ops of whole networks over dims of fixed size, while others are counted."""

from __future__ import annotations

from typing import Any

from lowering.capacity.rules.table import Rows
from lowering.capacity.values import Call, Counted, NoRule, Tensor, plain

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
def _batch_norm(call: Call, tensor: Counted, weight: Any, bias: Any, mean: Any, var: Any, training: bool, *args: Any) -> Tensor:
    if training:
        raise NoRule("takes statistics of a batch whose size data decide")
    if tensor.has(1):
        raise NoRule("data decide the number of its channels")
    return call.op(tensor.data, weight, bias, mean, var, training, *args)  # type: ignore[no-any-return]


@ROWS.of("group_norm", "instance_norm")
def _group_norm(call: Call, tensor: Counted, *args: Any) -> Tensor:
    return call.op(_only(tensor, 1, "it normalizes over"), *args)  # type: ignore[no-any-return]


@ROWS.of("conv1d.default", "conv2d.default", "conv3d.default", "convolution.default", "max_pool1d", "max_pool2d", "avg_pool1d",
         "avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d", "upsample_nearest2d.vec", "upsample_bilinear2d.vec", "pixel_shuffle")
def _windows(call: Call, tensor: Any, *args: Any) -> Any:
    if any(isinstance(argument, Counted) for argument in args):
        raise NoRule("data decide the size of its weight")
    return call.op(_only(tensor, 1, "it has windows over"), *args)
