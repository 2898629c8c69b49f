"""The binary parts of a float."""

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
