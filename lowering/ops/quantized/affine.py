"""torchao's affine and float8 quantization, by blocks of a tensor.

torchao's own definitions compare sizes with the sizes of blocks, which would exclude the size 1 of a dynamic dim.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch.fx.experimental.symbolic_shapes import statically_known_true

Tensor: TypeAlias = torch.Tensor

_SUB_BYTE = {f"{kind}{bits}" for kind in ("int", "uint") for bits in range(1, 8)}


def clamp(tensor: Tensor, low: Any, high: Any) -> Tensor:
    """Clamp floats by numbers or 0-d tensors of the same dtype. NaN stays NaN."""
    if isinstance(low, torch.Tensor) or isinstance(high, torch.Tensor):
        return torch.minimum(torch.maximum(tensor, torch.as_tensor(low, dtype=tensor.dtype)), torch.as_tensor(high, dtype=tensor.dtype))
    return torch.clamp(tensor, low, high)


def divide_size(size: Tensor, number: float) -> Tensor:
    """Return size / number of tensors >= 0, as eager rounds it.

    XLA multiplies by the reciprocal of a constant instead, which is one ulp off half of the time, and the element that decides a scale
    sits where one ulp changes its integer. A divisor that depends on the tensor is not constant; infinity and NaN stay what they are.
    """
    return size / torch.where(size < math.inf, torch.full([], number, dtype=size.dtype), 1.0)


def _split(shape: Sequence[Any], block: Sequence[Any]) -> tuple[list[Any], list[int], list[Any]]:
    """Return the shape in which each block has dims of its own, the positions of these, and the shape of one value for each block."""
    whole: list[Any] = []
    ones: list[Any] = []
    inside: list[int] = []
    for size, step in zip(shape, block, strict=True):
        if isinstance(step, int) and step == 1:
            whole.append(size)
            ones.append(size)
            continue
        if not statically_known_true(size == step):
            whole.append(size // step)
            ones.append(size // step)
        inside.append(len(whole))
        whole.append(step)
        ones.append(1)
    return whole, inside, ones


def _bounds(dtype: torch.dtype, low: Any, high: Any) -> tuple[Any, Any]:
    name = str(dtype).removeprefix("torch.")
    if dtype.is_floating_point:
        least, most = torch.finfo(dtype).min, torch.finfo(dtype).max
    elif name in _SUB_BYTE:
        bits = int(name.removeprefix("u").removeprefix("int"))
        least, most = (0, 2**bits - 1) if name.startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    else:
        least, most = torch.iinfo(dtype).min, torch.iinfo(dtype).max
    return least if low is None else low, most if high is None else high


def quantize(tensor: Tensor, block: Sequence[Any], scale: Tensor, zero_point: Tensor | None, dtype: torch.dtype,
             low: Any = None, high: Any = None) -> Tensor:
    """Quantize by a scale and an integer zero point for each block."""
    low, high = _bounds(dtype, low, high)
    whole, _, ones = _split(tensor.shape, block)
    rounded = torch.round(tensor.reshape(whole) * (1.0 / scale.reshape(ones)))
    shifted = rounded + zero_point.reshape(ones) if zero_point is not None else rounded
    stored = torch.uint8 if str(dtype).removeprefix("torch.") in _SUB_BYTE else dtype
    return clamp(shifted, low, high).reshape(tensor.shape).to(stored)


def dequantize(tensor: Tensor, block: Sequence[Any], scale: Tensor, zero_point: Tensor | None, dtype: torch.dtype,
               low: Any = None, high: Any = None, output_dtype: torch.dtype = torch.float32) -> Tensor:
    """Dequantize by a scale and an integer zero point for each block."""
    whole, _, ones = _split(tensor.shape, block)
    centered = tensor.reshape(whole).to(output_dtype)
    if zero_point is not None:
        centered = centered - zero_point.reshape(ones).to(output_dtype)
    return (centered * scale.reshape(ones)).reshape(tensor.shape).to(output_dtype)


def choose_qparams(tensor: Tensor, mapping: str, block: Sequence[Any], dtype: torch.dtype, low: Any = None, high: Any = None,
                   eps: float | None = None, scale_dtype: torch.dtype | None = None, zero_point_dtype: torch.dtype | None = None,
                   keepdim: bool = False) -> tuple[Tensor, Tensor]:
    """Return the scale and zero point of each block, as `mapping` says: SYMMETRIC, SYMMETRIC_NO_CLIPPING_ERR or ASYMMETRIC."""
    low, high = _bounds(dtype, low, high)
    eps = torch.finfo(tensor.dtype).smallest_normal if eps is None else eps
    whole, inside, _ = _split(tensor.shape, block)
    grouped = tensor.reshape(whole)
    least, most = torch.amin(grouped, inside, keepdim), torch.amax(grouped, inside, keepdim)
    least, most = torch.minimum(least, torch.zeros_like(least)), torch.maximum(most, torch.zeros_like(most))
    if mapping == "ASYMMETRIC":
        scale = torch.clamp(divide_size(most - least, float(high - low)), min=eps)
        zero_point = torch.clamp(low - torch.round(least / scale), low, high)
        zero_point_dtype = torch.int32 if zero_point_dtype is None else zero_point_dtype
    else:
        if mapping == "SYMMETRIC":
            scale = divide_size(torch.maximum(-least, most), float(high - low) / 2)
        else:
            scale = torch.maximum(divide_size(-least, -float(low)), divide_size(most, float(high)))
        zero_point = torch.full_like(scale, int((high + low + 1) / 2))
        scale = torch.clamp(scale, min=eps)
    if keepdim:
        shape = [_count(size, step) for size, step in zip(tensor.shape, block, strict=True)]
        scale, zero_point = scale.reshape(shape), zero_point.reshape(shape)
    return scale.to(tensor.dtype if scale_dtype is None else scale_dtype), zero_point.to(zero_point_dtype or zero_point.dtype)


def _count(size: Any, step: Any) -> Any:
    return size if isinstance(step, int) and step == 1 else 1 if statically_known_true(size == step) else size // step


def choose_float8_scale(tensor: Tensor, block: Sequence[Any], float8_dtype: torch.dtype = torch.float8_e4m3fn,
                        scale_dtype: torch.dtype = torch.float32, hp_value_lb: float | None = None,
                        hp_value_ub: float | None = None) -> Tensor:
    """Return the float32 scale of each block, whose largest magnitude becomes that of the float8 dtype; of e8m0 a power of two."""
    whole, inside, _ = _split(tensor.shape, block)
    most = tensor.reshape(whole).abs().amax(inside, keepdim=True)
    if hp_value_lb is not None or hp_value_ub is not None:
        most = torch.clamp(most, hp_value_lb, hp_value_ub)
    shape = [_count(size, step) for size, step in zip(tensor.shape, block, strict=True)]
    scale = divide_size(most, torch.finfo(float8_dtype).max).reshape(shape)
    if scale_dtype is not torch.float32:
        scale = torch.exp2(torch.round(torch.log2(scale)))
    return scale.to(torch.float32)


def quantize_float8(tensor: Tensor, scale: Tensor, float8_dtype: torch.dtype = torch.float8_e4m3fn) -> Tensor:
    """Quantize to float8 by the scales of blocks; numbers beyond the range saturate."""
    most = torch.finfo(float8_dtype).max
    return torch.clamp(_by_block(tensor.to(torch.float32), scale, torch.div), -most, most).to(float8_dtype)


def dequantize_float8(tensor: Tensor, scale: Tensor, output_dtype: torch.dtype = torch.float32) -> Tensor:
    """Dequantize float8 by the scales of blocks."""
    return _by_block(tensor.to(torch.float32), scale, torch.mul).to(output_dtype)


def _by_block(tensor: Tensor, scale: Tensor, operation: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Apply an operation to each element and the scale of its block."""
    broadcast = scale.dim() < 1 or all(statically_known_true(one == 1) or statically_known_true(one == size)
                                       for one, size in zip(scale.shape, tensor.shape[-scale.dim():], strict=True))
    if broadcast:
        return operation(tensor, scale)
    block = [1 if statically_known_true(size == count) else size // count for size, count in zip(tensor.shape, scale.shape, strict=True)]
    whole, _, ones = _split(tensor.shape, block)
    return operation(tensor.reshape(whole), scale.reshape(ones)).reshape(tensor.shape)


ROWS: dict[str, Callable[..., Any]] = {
    "quantize_affine": quantize,
    "dequantize_affine": dequantize,
    "choose_qparams_affine": choose_qparams,
    "choose_scale_float8": choose_float8_scale,
    "quantize_affine_float8": quantize_float8,
    "quantize_affine_float8_non_decomposed": quantize_float8,
    "dequantize_affine_float8": dequantize_float8,
    "dequantize_affine_float8_non_decomposed": dequantize_float8,
}
