"""Discrete Fourier transforms at dynamic lengths, as products with the matrix of the transform. The cost is quadratic in the length."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch

Tensor: TypeAlias = torch.Tensor
Parts = tuple[Tensor, Tensor]  # real and imaginary


def complex_to_complex(tensor: Tensor, dim: Sequence[int], normalization: int, forward: bool) -> Tensor:
    """Compute aten::_fft_c2c."""
    parts = _split_parts(tensor)
    for axis in dim:
        parts = _transform(parts, axis, forward)
    return torch.complex(*_scale(parts, _normalize_like(tensor, dim, normalization)))


def real_to_complex(tensor: Tensor, dim: Sequence[int], normalization: int, onesided: bool) -> Tensor:
    """Compute aten::_fft_r2c. If `onesided`, only the first half of the last axis of `dim` is kept."""
    parts = tensor, torch.zeros_like(tensor)
    *others, last = dim
    parts = _transform(parts, last, forward=True, kept=tensor.shape[last] // 2 + 1 if onesided else None)
    for axis in others:
        parts = _transform(parts, axis, forward=True)
    return torch.complex(*_scale(parts, _normalize_like(tensor, dim, normalization)))


def complex_to_real(tensor: Tensor, dim: Sequence[int], normalization: int, last_dim_size: Any) -> Tensor:
    """Compute aten::_fft_c2r, the inverse of a onesided transform whose last axis had `last_dim_size` elements."""
    parts = _split_parts(tensor)
    *others, last = dim
    for axis in others:
        parts = _transform(parts, axis, forward=False)
    half = last_dim_size // 2 + 1
    real, imaginary = (part.narrow(last, 0, half).movedim(last, -1) for part in parts)
    bins = torch.arange(half, device=tensor.device)
    # each bin represents its conjugate too, except the first one and the middle one of an even length
    weight = torch.where((bins == 0) | (2 * bins == last_dim_size), 1, 2).to(real.dtype)
    cosine, sine = _matrix(half, last_dim_size, last_dim_size, real)
    result = torch.matmul(real * weight, cosine) - torch.matmul(imaginary * weight, sine)
    spatial = [tensor.shape[axis] for axis in others]
    return result.movedim(-1, last) * _normalization([*spatial, last_dim_size], normalization, real)


def _split_parts(tensor: Tensor) -> Parts:
    pairs = torch.view_as_real(tensor.resolve_conj())
    return pairs.select(-1, 0), pairs.select(-1, 1)


def _transform(parts: Parts, axis: int, forward: bool, kept: Any = None) -> Parts:
    """Transform one axis, and keep the first `kept` bins."""
    real, imaginary = (part.movedim(axis, -1) for part in parts)
    length = real.shape[-1]
    cosine, sine = _matrix(length, length if kept is None else kept, length, real)
    sine = -sine if forward else sine
    turned = torch.matmul(real, cosine) - torch.matmul(imaginary, sine), torch.matmul(real, sine) + torch.matmul(imaginary, cosine)
    return turned[0].movedim(-1, axis), turned[1].movedim(-1, axis)


def _matrix(rows: Any, columns: Any, length: Any, like: Tensor) -> Parts:
    """Return cos and sin of 2 pi * row * column / length, which are exact where they are 0, 1 or -1.

    The product is reduced modulo the length in integers, so that long transforms stay exact.
    """
    product = torch.arange(rows, device=like.device).unsqueeze(-1) * torch.arange(columns, device=like.device)
    quarters = 4 * torch.remainder(product, length)  # in quarters of a turn of `length` steps
    return _sine(torch.remainder(quarters + length, 4 * length), length, like.dtype), _sine(quarters, length, like.dtype)


def _sine(quarters: Tensor, length: Any, dtype: torch.dtype) -> Tensor:
    """Return sin of pi / 2 * quarters / length, 0 <= quarters < 4 * length, by the sine of an angle within a quarter turn of 0."""
    folded = torch.where(quarters > 3 * length, quarters - 4 * length, torch.where(quarters > length, 2 * length - quarters, quarters))
    return torch.sin(math.pi / 2 * (folded.to(dtype) / length))


def frequencies(n: Any, d: float = 1.0, *, dtype: torch.dtype | None = None, **settings: Any) -> Tensor:
    """Compute aten::fft_fftfreq: the frequency of each of `n` bins, those of the second half negative."""
    places = torch.arange(n, device=settings.get("device"))
    return _scale_frequencies(torch.where(places < (n + 1) // 2, places, places - n), n, d, dtype)


def real_frequencies(n: Any, d: float = 1.0, *, dtype: torch.dtype | None = None, **settings: Any) -> Tensor:
    """Compute aten::fft_rfftfreq: the frequency of each bin of a onesided transform of `n` elements."""
    return _scale_frequencies(torch.arange(n // 2 + 1, device=settings.get("device")), n, d, dtype)


def _scale_frequencies(places: Tensor, n: Any, d: float, dtype: torch.dtype | None) -> Tensor:
    return places.to(dtype or torch.get_default_dtype()) * (1.0 / (n * d))


def _scale(parts: Parts, factor: Tensor) -> Parts:
    return parts[0] * factor, parts[1] * factor


def _normalize_like(tensor: Tensor, dim: Sequence[int], normalization: int) -> Tensor:
    like = torch.view_as_real(tensor) if tensor.dtype.is_complex else tensor
    return _normalization([tensor.shape[axis] for axis in dim], normalization, like)


def _normalization(sizes: Sequence[Any], normalization: int, like: Tensor) -> Tensor:
    """Return 1, 1 / sqrt(elements) or 1 / elements, for normalization 0, 1 and 2."""
    count = torch.ones((), dtype=like.dtype, device=like.device)
    for size in sizes:
        count = count * size
    return (torch.ones_like(count), count.rsqrt(), count.reciprocal())[normalization]
