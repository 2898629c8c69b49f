"""Products of quantized matrices: integers are summed as int32, in which no order of the sum changes the result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch

Tensor: TypeAlias = torch.Tensor

OFFSET = 128  # from uint8 to int8


def int_mm(left: Tensor, right: Tensor) -> Tensor:
    """Compute aten::_int_mm: (M, K) x (K, N) of bytes, as int32.

    The operands are converted to int32 here; the legalization removes the conversions, so that MHLO has a dot of int8. Unsigned bytes are
    shifted into int8, and a sum over the other operand makes up for it.
    """
    first, second = _to_signed(left), _to_signed(right)
    product = torch.mm(first.to(torch.int32), second.to(torch.int32))
    if left.dtype is torch.uint8:
        product = product + OFFSET * right.to(torch.int32).sum(0, keepdim=True, dtype=torch.int32)
    if right.dtype is torch.uint8:
        product = product + OFFSET * first.to(torch.int32).sum(1, keepdim=True, dtype=torch.int32)
    return product


def _to_signed(bytes_: Tensor) -> Tensor:
    return (bytes_.to(torch.int32) - OFFSET).to(torch.int8) if bytes_.dtype is torch.uint8 else bytes_


def scaled_int_mm(left: Tensor, right: Tensor, scales: Tensor) -> Tensor:
    """Compute torchao::int_scaled_matmul: an integer product, scaled by row."""
    return int_mm(left, right).to(scales.dtype) * scales


def scaled_mm(left: Tensor, right: Tensor, scale_left: Tensor, scale_right: Tensor, bias: Tensor | None = None,
              scale_result: Tensor | None = None, out_dtype: torch.dtype | None = None, use_fast_accum: bool = False) -> Tensor:
    """Compute aten::_scaled_mm: a product of float8 matrices in float32, with a scale for each operand or its rows."""
    product = torch.mm(left.to(torch.float32) * scale_left, right.to(torch.float32) * scale_right)
    if bias is not None:
        product = product + bias.to(torch.float32)
    chosen = left.dtype if out_dtype is None else out_dtype
    if scale_result is not None and chosen.itemsize == 1:
        product = product * scale_result
    return product.to(chosen)


def weight_int8_mm(tensor: Tensor, weight: Tensor, scales: Tensor) -> Tensor:
    """Compute aten::_weight_int8pack_mm: (M, K) x (N, K) of int8, scaled by row of the weight."""
    product: Any = torch.mm(tensor.to(torch.float32), weight.to(torch.float32).t())
    return (product * scales.to(torch.float32)).to(tensor.dtype)


def int4_mm(tensor: Tensor, pairs: Tensor, group_size: int, scales_and_zeros: Tensor) -> Tensor:
    """Compute aten::_weight_int4pack_mm_for_cpu on an unpacked weight: (M, K) x (N, K / 2) bytes, the first of each pair in the low 4 bits.

    scales_and_zeros: (K / group_size, N, 2), the scale and the float that stands for 8.
    """
    wide = pairs.to(torch.int32)
    values = torch.stack([torch.bitwise_and(wide, 15), torch.bitwise_right_shift(wide, 4)], 2).reshape(pairs.shape[0], -1, group_size)
    scales, zeros = (part.t().unsqueeze(2).to(torch.float32) for part in scales_and_zeros.unbind(2))
    weight = ((values - 8).to(torch.float32) * scales + zeros).reshape(pairs.shape[0], -1)
    return torch.mm(tensor.to(torch.float32), weight.t()).to(tensor.dtype)


def linear(tensor: Tensor, scale: Any, zero_point: Any, weight: Tensor, weight_scale: Any, weight_zero: Any, bias: Tensor | None) -> Tensor:
    """Compute a linear layer of quantized operands: bytes (..., K) and (N, K), with a sum of integers that is scaled once.

    scale, zero_point: of the whole tensor, numbers or of one element, or of each row (..., 1). weight_scale, weight_zero: numbers or (N,).
    """
    rows = tensor.reshape(-1, tensor.shape[-1])
    first, second = _to_signed(rows), _to_signed(weight)
    scale, shift = _align_rows(scale, torch.float32), _align_rows(zero_point, torch.int32) - _offset(tensor)
    weight_shift = None if weight_zero is None else _align_columns(weight_zero, torch.int32) - _offset(weight)
    left, right = first.to(torch.int32), second.to(torch.int32)
    total = torch.mm(left, right.t())
    if isinstance(shift, torch.Tensor) or shift != 0:
        total = total - right.sum(1, dtype=torch.int32) * shift
    if isinstance(weight_shift, torch.Tensor) or (weight_shift is not None and weight_shift != 0):
        total = total - (left.sum(1, keepdim=True, dtype=torch.int32) - shift * tensor.shape[-1]) * weight_shift
    scaled = total.to(torch.float32) * (_align_columns(weight_scale, torch.float32) * scale)
    scaled = scaled if bias is None else scaled + bias
    return scaled.reshape(*tensor.shape[:-1], weight.shape[0])


def convolve(tensor: Tensor, scale: Any, zero_point: Any, weight: Tensor, weight_scale: Any, bias: Tensor | None, stride: Sequence[int],
             padding: Sequence[int] | str, dilation: Sequence[int], groups: int) -> Tensor:
    """Compute a convolution of quantized operands: bytes (N, C, ...) and int8 (O, C / groups, ...) of zero point 0, summed as integers.

    Padding has the value zero, which `zero_point` stands for: a number, or of one element where nothing is padded. scale: of the whole
    tensor. weight_scale: a number or (O,).
    """
    spatial = weight.dim() - 2
    shift = _align_rows(zero_point, torch.int32) - _offset(tensor)
    first, room = _to_signed(tensor), _list_padding(padding, weight.shape[2:], dilation)
    if any(room):
        first = torch.constant_pad_nd(first, room, shift)
    wide = weight.to(torch.int32)
    total = torch.ops.aten.convolution(first.to(torch.int32), wide, None, _repeat(stride, spatial), [0] * spatial,
                                       _repeat(dilation, spatial), False, [0] * spatial, groups)  # fmt: skip

    def align(value: Any) -> Any:
        return value.reshape([-1, *[1] * spatial]) if isinstance(value, torch.Tensor) else value

    if isinstance(shift, torch.Tensor) or shift != 0:
        total = total - align(wide.sum(list(range(1, weight.dim())), dtype=torch.int32)) * shift
    scaled = total.to(torch.float32) * (align(weight_scale) * _align_rows(scale, torch.float32))
    return scaled if bias is None else scaled + align(bias)


def _list_padding(padding: Sequence[int] | str, kernel: Sequence[int], dilation: Sequence[int]) -> list[int]:
    """Return the padding before and after each spatial dim, from the last dim to the first, as `constant_pad_nd` takes it."""
    if padding == "valid":
        return []
    if isinstance(padding, str):  # same
        totals = [step * (size - 1) for size, step in zip(kernel, _repeat(dilation, len(kernel)), strict=True)]
        pairs = [(total // 2, total - total // 2) for total in totals]
    else:
        pairs = [(each, each) for each in _repeat(padding, len(kernel))]
    return [each for pair in reversed(pairs) for each in pair]


def _repeat(values: Sequence[int], count: int) -> list[int]:
    return list(values) * count if len(values) == 1 else list(values)


def _offset(bytes_: Tensor) -> int:
    return OFFSET if bytes_.dtype is torch.uint8 else 0


def _align_rows(value: Any, dtype: torch.dtype) -> Any:
    if not isinstance(value, torch.Tensor):
        return value
    return value.reshape([] if value.dim() < 2 else [-1, 1]).to(dtype)


def _align_columns(value: Any, dtype: torch.dtype) -> Any:
    return value.to(dtype).reshape([1, -1]) if isinstance(value, torch.Tensor) else value
