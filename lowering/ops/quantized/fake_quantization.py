"""Fake quantization (of training): quantize and dequantize in one op, in floats."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch

from lowering.ops.quantized import affine

Tensor: TypeAlias = torch.Tensor

_LARGEST = float(2**63)  # eager's int64 of what is not below it is the least one


def per_channel_decomposed(tensor: Tensor, scales: Tensor, zero_points: Tensor, axis: int, low: int, high: int) -> Tensor:
    """Compute quantized_decomposed::fake_quant_per_channel."""
    scales, zero_points = _align(scales.to(torch.float32), tensor, axis), _align(zero_points.to(torch.int32), tensor, axis)
    return (affine.clamp(torch.round(tensor * (1.0 / scales)) + zero_points, low, high) - zero_points) * scales


def per_tensor(tensor: Tensor, scale: Any, zero_point: Any, low: int, high: int) -> tuple[Tensor, Tensor]:
    """Compute aten::fake_quantize_per_tensor_affine_cachemask: the result, and where it was not clamped."""
    quantized = torch.round(tensor * (1.0 / scale)) + zero_point
    clamped = torch.where(torch.isnan(quantized), low, torch.clamp(quantized, low, high))
    return ((clamped - zero_point) * scale).to(tensor.dtype), (quantized >= low) & (quantized <= high)


def per_tensor_given(tensor: Tensor, scale: Tensor, zero_point: Tensor, enabled: Tensor, low: int, high: int) -> tuple[Tensor, Tensor]:
    """Compute aten::_fake_quantize_per_tensor_affine_cachemask_tensor_qparams, which does nothing unless `enabled` is 1."""
    result, mask = per_tensor(tensor, scale.reshape([]), zero_point.reshape([]).to(torch.float32), low, high)
    is_on = enabled.reshape([]) != 0
    return torch.where(is_on, result, tensor), mask | ~is_on


def per_channel(tensor: Tensor, scale: Tensor, zero_point: Tensor, axis: int, low: int, high: int) -> tuple[Tensor, Tensor]:
    """Compute aten::fake_quantize_per_channel_affine_cachemask: the result, and where it was not clamped."""
    scale, zero_point = _align(scale, tensor, axis), _align(zero_point.to(tensor.dtype), tensor, axis)
    rounded = torch.round(tensor * (1.0 / scale))
    quantized = torch.where(rounded.abs() < _LARGEST, rounded + zero_point, low - 1)
    return (torch.clamp(quantized, low, high) - zero_point) * scale, (quantized >= low) & (quantized <= high)


def _align(values: Tensor, tensor: Tensor, axis: int) -> Tensor:
    shape: list[Any] = [1] * tensor.dim()
    shape[axis] = values.shape[0]
    return values.reshape(shape)


ROWS: dict[str, Callable[..., Any]] = {
    "fake_quantize_per_tensor_affine_cachemask": per_tensor,
    "_fake_quantize_per_tensor_affine_cachemask_tensor_qparams": per_tensor_given,
    "fake_quantize_per_channel_affine_cachemask": per_channel,
}



def _choose_first(given: Callable[..., tuple[Tensor, Tensor]]) -> Callable[..., Tensor]:
    return lambda *args: given(*args)[0]


def _per_tensor_qparams(tensor: Tensor, scale: Tensor, zero_point: Tensor, low: int, high: int) -> Tensor:
    return per_tensor(tensor, scale.reshape([]), zero_point.reshape([]).to(torch.float32), low, high)[0]


WHOLE: dict[str, Callable[..., Any]] = {
    "fake_quantize_per_tensor_affine": _choose_first(per_tensor),
    "fake_quantize_per_tensor_affine.tensor_qparams": _per_tensor_qparams,
    "fake_quantize_per_channel_affine": _choose_first(per_channel),
}


def _register_shapes() -> torch.library.Library:
    """Give torch's cachemask ops the shapes of their results, without which torch.export cannot capture them."""
    library = torch.library.Library("aten", "IMPL")
    for name in ROWS:
        if not torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{name}", "Meta"):
            library.impl(name, lambda tensor, *_: (torch.empty_like(tensor), torch.empty_like(tensor, dtype=torch.bool)), "Meta")
    return library


_SHAPES = _register_shapes()
