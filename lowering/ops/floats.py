"""Floats taken apart into significand and exponent."""

from __future__ import annotations

from typing import TypeAlias

import torch

Tensor: TypeAlias = torch.Tensor


def frexp(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """Return (m, e) with tensor = m * 2^e and 0.5 <= |m| < 1; e is 0 where a number is 0, infinite or NaN."""
    info = torch.finfo(tensor.dtype)
    plain = torch.isfinite(tensor) & (tensor != 0)
    rest, exponent = torch.where(plain, tensor, 0.5), torch.zeros_like(tensor, dtype=torch.int32)
    power = 1 << (int(abs(info.tiny).hex().rpartition("p")[2].lstrip("-")).bit_length() - 1)
    while power:
        factor = 2.0**power
        large, small = rest.abs() >= factor / 2, rest.abs() < 1 / factor
        rest = torch.where(large, rest / factor, torch.where(small, rest * factor, rest))
        exponent = exponent + torch.where(large, power, torch.where(small, -power, 0)).to(torch.int32)
        power //= 2
    high, low = rest.abs() >= 1, rest.abs() < 0.5
    rest = torch.where(high, rest / 2, torch.where(low, rest * 2, rest))
    exponent = exponent + torch.where(high, 1, torch.where(low, -1, 0)).to(torch.int32)
    return torch.where(plain, rest, tensor), torch.where(plain, exponent, 0)


def ldexp(tensor: Tensor, exponent: Tensor) -> Tensor:
    """Return tensor * 2^exponent, exact for integers where 2^exponent itself is beyond the range of the dtype."""
    if exponent.dtype.is_floating_point or tensor.dtype.is_complex:
        return tensor * torch.pow(2.0, exponent)
    dtype = tensor.dtype if tensor.dtype.is_floating_point else torch.get_default_dtype()
    is_double = dtype is torch.float64
    bits, most = (12, 9) if is_double else (9, 6)  # all that make a difference between 0 and infinity; of the largest factor
    result = tensor.to(dtype if is_double else torch.float32)
    limit = 2**bits - 1
    exponent = exponent.to(torch.int64).clamp(-limit, limit)
    for bit in range(bits):
        power = 2.0 ** 2 ** min(bit, most)
        up, down = (torch.scalar_tensor(number, dtype=result.dtype) for number in (power, 1 / power))
        step = torch.where(torch.bitwise_and(exponent.abs(), 2**bit) != 0, torch.where(exponent < 0, down, up), 1)
        for _ in range(2 ** max(bit - most, 0)):
            result = result * step
    return result.to(dtype)
