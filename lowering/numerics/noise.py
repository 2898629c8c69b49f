"""Noise for imitated rounding: a function of the bits of each element, so that equal elements round alike and their errors add up."""

from __future__ import annotations

import torch

_MIX = (-7046029254386353131, -4658895280553007687, -7723592293110705685)  # odd, as splitmix64 mixes


def draw(value: torch.Tensor, call: int) -> torch.Tensor:
    """Return numbers in [-1, 1) for the elements of a tensor of 4 or 8-byte floats, in its dtype; complex numbers count by real parts."""
    real = (value.real if value.is_complex() else value).contiguous()
    bits = real.view(torch.int64 if real.element_size() == 8 else torch.int32).long()
    salt = (call * _MIX[0] + (1 << 63)) % (1 << 64) - (1 << 63)  # as 64 bits wrap
    mixed = (bits + salt) * _MIX[1]
    mixed = (mixed ^ (mixed >> 29)) * _MIX[2]
    return (((mixed ^ (mixed >> 32)) & ((1 << 52) - 1)).double() / (1 << 51) - 1).to(real.dtype)


def is_whole(value: torch.Tensor) -> bool:
    """Return whether every element is a whole number."""
    parts = torch.view_as_real(value) if value.is_complex() else value
    return bool((parts == parts.round()).all())
