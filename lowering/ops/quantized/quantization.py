"""Quantized arithmetic as plain ops: `quantized_decomposed` (PT2E and executorch), `torchao`, and ATen's products of quantized operands.

Each function computes what the eager op computes, in the same dtypes and in the same order, for every size. An op of these namespaces that
has no function here is refused: it would become a custom call that nobody can run.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch.ao.quantization.fx import _decomposed as torchs  # also registers quantized_decomposed

from lowering.ops.quantized import affine, fake_quantization, integer_products

Tensor: TypeAlias = torch.Tensor
Decomposition: TypeAlias = Callable[..., Any]

aten = torch.ops.aten


def quantize_per_tensor(tensor: Tensor, scale: Any, zero_point: Any, low: Any, high: Any, dtype: torch.dtype) -> Tensor:
    """Quantize by one scale and zero point, numbers or tensors of one element."""
    wide = tensor.to(torch.float32)
    inverse = 1.0 / _number(scale, torch.float64)
    inverse = inverse.to(torch.float32) if isinstance(inverse, torch.Tensor) else inverse
    shifted = torch.round(wide * inverse) + _number(zero_point, torch.float32)
    return affine.clamp(shifted, _number(low, torch.float32), _number(high, torch.float32)).to(dtype)


def dequantize_per_tensor(tensor: Tensor, scale: Any, zero_point: Any, low: Any, high: Any, dtype: torch.dtype, *,
                          out_dtype: torch.dtype | None = None) -> Tensor:
    """Dequantize by one scale and zero point, numbers or tensors of one element."""
    chosen = torch.float32 if out_dtype is None else out_dtype
    computed = torch.float32 if chosen.itemsize < 4 else chosen  # eager computes each step of a narrow float in float32
    centered = (tensor.to(chosen).to(computed) - _number(zero_point, computed)).to(chosen)
    return (centered.to(computed) * _number(scale, computed)).to(chosen)


def _number(value: Any, dtype: torch.dtype) -> Any:
    """Return a number as it is, and a tensor of one element as a 0-d tensor of `dtype`."""
    return value.reshape([]).to(dtype) if isinstance(value, torch.Tensor) else value


def choose_qparams(tensor: Tensor, low: int, high: int, eps: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return (scale, zero point) of one element each, so that the range of the tensor, extended to 0, is mapped to [low, high]."""
    least, most = _range_with_zero(tensor)
    scale = torch.maximum(affine.divide_size(most - least, float(high - low)), torch.full([1], eps, dtype=torch.float32))
    zero_point = low - torch.round(least / scale).to(torch.int32)
    return scale.to(torch.float64), torch.clamp(zero_point, low, high).to(torch.int64)


def choose_qparams_symmetric(tensor: Tensor, low: int, high: int, eps: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return (scale, zero point) of one element each, so that the largest magnitude is mapped to the end of the range."""
    least, most = _range_with_zero(tensor)
    scale = torch.maximum(affine.divide_size(torch.maximum(-least, most), float(high - low) / 2), torch.full([1], eps, dtype=torch.float32))
    return scale.to(torch.float64), torch.full([1], 128 if dtype is torch.uint8 else 0, dtype=torch.int64)


def _range_with_zero(tensor: Tensor) -> tuple[Tensor, Tensor]:
    least, most = tensor.amin(), tensor.amax()
    return torch.minimum(least, torch.zeros_like(least)), torch.maximum(most, torch.zeros_like(most))


def choose_qparams_per_token(tensor: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return (scales, zero points) (..., 1) of int8, symmetric, for each vector along the last dim."""
    most = tensor.abs().amax(-1, keepdim=True)
    most = most.float() if most.dtype is torch.float16 else most
    scales = affine.divide_size(most.clamp(min=1e-5), 127)
    return scales, torch.zeros_like(scales)


def choose_qparams_per_token_asymmetric(tensor: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return (scales, zero points) (..., 1) of int8 for each vector along the last dim, as XNNPACK chooses them."""
    low, high = -128, 127
    least, most = tensor.amin(-1, keepdim=True), tensor.amax(-1, keepdim=True)
    least, most = torch.minimum(least, torch.zeros_like(least)), torch.maximum(most, torch.zeros_like(most))
    scale = affine.divide_size(most - least, float(high - low)).clamp(min=torch.finfo(torch.float32).eps)
    from_least, from_most = least / scale, most / scale
    zero_point = torch.where((low + from_least) + (high + from_most) > 0, low - from_least, high - from_most)
    return scale.to(torch.float64), torch.clamp(zero_point, low, high).round().to(torch.int64)


def quantize_per_token(tensor: Tensor, scales: Tensor, zero_points: Tensor, low: int, high: int, dtype: torch.dtype) -> Tensor:
    """Quantize along the last dim, by one scale and zero point for each of its vectors."""
    return affine.clamp(torch.round(tensor * (1.0 / scales) + zero_points), low, high).to(dtype)


def quantize_per_channel_group(tensor: Tensor, scales: Tensor, zero_points: Tensor, low: int, high: int, dtype: torch.dtype,
                               group_size: int = 128) -> Tensor:
    """Quantize groups of `group_size` elements of each row of a matrix."""
    groups, scales, zero_points = _group(tensor, scales, zero_points, group_size)
    return affine.clamp(torch.round(groups * (1.0 / scales) + zero_points), low, high).to(dtype).reshape(tensor.shape)


def dequantize_per_channel_group(tensor: Tensor, scales: Tensor, zero_points: Tensor | None, low: int, high: int, dtype: torch.dtype,
                                 group_size: int = 128, output_dtype: torch.dtype = torch.float32) -> Tensor:
    """Dequantize groups of `group_size` elements of each row of a matrix."""
    zero_points = torch.zeros_like(scales, dtype=torch.int32) if zero_points is None else zero_points
    groups, scales, zero_points = _group(tensor, scales, zero_points, group_size)
    return ((groups - zero_points) * scales).reshape(tensor.shape).to(output_dtype)


def _group(matrix: Tensor, scales: Tensor, zero_points: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return a matrix (M, N) as (M, N / size, size), and its scales and zero points as (M, N / size, 1)."""
    rows, columns = matrix.shape
    count = scales.shape[-1] if scales.dim() == 2 else columns // size
    each = columns if count == 1 else size
    return (matrix.reshape(rows, columns // each, each), scales.reshape(rows, columns // each, 1),
            zero_points.reshape(rows, columns // each, 1))  # fmt: skip


def convert(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert to another dtype."""
    return tensor.to(dtype)


def embed_bytes(weight: Tensor, scales: Tensor, zero_points: Tensor | None, low: int, high: int, indices: Tensor, *,
                dtype: torch.dtype | None = None) -> Tensor:
    """Look up rows of a weight of bytes (V, D) and dequantize them, by one scale for each row, or (V, G) for its groups."""
    return _dequantize_rows(torch.embedding(weight, indices), scales, zero_points, indices, dtype)


def embed_packed(bits: int, weight: Tensor, scales: Tensor, zero_points: Tensor | None, low: int, high: int, indices: Tensor, *,
                 dtype: torch.dtype | None = None) -> Tensor:
    """Look up rows of a weight whose bytes hold 8 / bits elements, the first in the highest bits if 4, else in the lowest."""
    rows = torch.embedding(weight, indices).to(torch.int32)
    shifts = range(8 - bits, -1, -bits) if bits == 4 else range(0, 8, bits)
    parts = [torch.bitwise_and(torch.bitwise_right_shift(rows, shift), (1 << bits) - 1) - (1 << (bits - 1)) for shift in shifts]
    return _dequantize_rows(torch.stack(parts, -1).flatten(-2), scales, zero_points, indices, dtype)


def _dequantize_rows(rows: Tensor, scales: Tensor, zero_points: Tensor | None, indices: Tensor, dtype: torch.dtype | None) -> Tensor:
    groups = scales.shape[1] if scales.dim() == 2 else 1
    shape = [*indices.shape, groups, rows.shape[-1] // groups]

    def find(table: Tensor) -> Tensor:
        return torch.embedding(table.reshape(-1, groups), indices).unsqueeze(-1)

    centered = rows.reshape(shape) if zero_points is None else rows.reshape(shape) - find(zero_points)
    return (centered * find(scales)).reshape(rows.shape).to(scales.dtype if dtype is None else dtype)


_EMBEDDINGS: dict[str, Decomposition] = {
    "embedding_byte": embed_bytes,
    **{f"embedding_{bits}bit": functools.partial(embed_packed, bits) for bits in (2, 4)},
}

# By qualified name, because torchao's ops exist only once torchao is imported.
ROWS: dict[str, Decomposition] = {
    **{f"quantized_decomposed::{name}": row for name, row in {
        **dict.fromkeys(("quantize_per_tensor", "quantize_per_tensor.tensor", "quantize_per_tensor.tensor2"), quantize_per_tensor),
        **dict.fromkeys(("dequantize_per_tensor", "dequantize_per_tensor.tensor", "dequantize_per_tensor.tensor2"), dequantize_per_tensor),
        "choose_qparams.tensor": choose_qparams,
        "choose_qparams_symmetric.tensor": choose_qparams_symmetric,
        "quantize_per_channel": torchs.quantize_per_channel,
        "dequantize_per_channel": torchs.dequantize_per_channel,
        "choose_qparams_per_token": choose_qparams_per_token,
        "choose_qparams_per_token_asymmetric": choose_qparams_per_token_asymmetric,
        "_choose_qparams_per_token_asymmetric_impl": choose_qparams_per_token_asymmetric,
        "quantize_per_token": quantize_per_token,
        "dequantize_per_token": torchs.dequantize_per_token,
        "quantize_per_channel_group": quantize_per_channel_group,
        "dequantize_per_channel_group": dequantize_per_channel_group,
        "fake_quant_per_channel": fake_quantization.per_channel_decomposed,
        "convert_element_type.no_fuse": convert,
        **{name + form: row for name, row in _EMBEDDINGS.items() for form in ("", ".dtype")},
    }.items()},
    **{f"torchao::{name}": row for name, row in affine.ROWS.items()},
    "torchao::int_matmul": integer_products.int_mm,
    "torchao::int_scaled_matmul": integer_products.scaled_int_mm,
    "aten::_int_mm": integer_products.int_mm,
    "aten::_scaled_mm": integer_products.scaled_mm,
    "aten::_weight_int8pack_mm": integer_products.weight_int8_mm,
    **{f"aten::{name}": row for name, row in (fake_quantization.ROWS | fake_quantization.WHOLE).items()},
}

_NAMESPACES = ("quantized_decomposed", "torchao")
# Their weights are in the layout of one kernel, which depends on the processor that packed them.
_KERNEL_LAYOUTS = ("_weight_int4pack_mm", "_weight_int4pack_mm_with_scales_and_zeros", "_dyn_quant_matmul_4bit")


def _refuse(reason: str) -> Decomposition:
    def refuse(*_: Any, **__: Any) -> Any:
        raise NotImplementedError(reason)

    return refuse


_UNKNOWN = _refuse("no arithmetic of this op is known, and a custom call of it could not be run")
_PACKED = _refuse("its weight is packed for a kernel of one processor; quantize with torchao's IntxWeightOnlyConfig instead")


@functools.cache
def find(op: torch._ops.OpOverload) -> Decomposition | None:
    """Return the arithmetic of a quantized op, or one that refuses it; None for all other ops."""
    row = ROWS.get(op.name())
    if row is not None:
        return row
    if op.namespace in _NAMESPACES:
        return op.decompose if op._can_decompose() else _UNKNOWN
    return _PACKED if op.namespace == "aten" and op._opname in _KERNEL_LAYOUTS else None
