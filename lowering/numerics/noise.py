"""Noise for imitated rounding: a function of the bits of each element, so that equal elements round alike and their errors add up."""

from __future__ import annotations

import torch

_MIX_64 = (-7046029254386353131, -4658895280553007687, -7723592293110705685)  # odd, as splitmix64 mixes
_MIX_32 = (-2048144789, -1028477387)  # odd, as MurmurHash3 ends
_LOOKED_AT = 256  # elements that mostly show that some are no whole numbers


class Noise:
    """A stream of noise: each tensor that is drawn has other numbers."""

    def __init__(self, seed: int) -> None:
        self._calls = seed << 32

    def draw(self, like: torch.Tensor) -> torch.Tensor:
        """Return numbers in [-1, 1) for the elements of a tensor, see `draw`."""
        self._calls += 1
        return draw(like, self._calls)


def draw(value: torch.Tensor, call: int) -> torch.Tensor:
    """Return numbers in [-1, 1) for the elements of a tensor of 4 or 8-byte floats, in its dtype; complex numbers count by real parts."""
    real = (value.real if value.is_complex() else value).contiguous()
    salt = _wrap(call * _MIX_64[0], 64)
    if real.element_size() == 8:
        mixed = (real.view(torch.int64) + salt).mul_(_MIX_64[1])
        mixed.bitwise_xor_(mixed >> 29).mul_(_MIX_64[2])
        return mixed.bitwise_xor_(mixed >> 32).bitwise_and_((1 << 52) - 1).double().div_(1 << 51).sub_(1)
    mixed = real.view(torch.int32) + _wrap(salt ^ (salt >> 32), 32)
    mixed.bitwise_xor_(mixed >> 16).mul_(_MIX_32[0])
    mixed.bitwise_xor_(mixed >> 13).mul_(_MIX_32[1])
    return mixed.bitwise_xor_(mixed >> 16).bitwise_and_((1 << 24) - 1).float().div_(1 << 23).sub_(1)


def _wrap(number: int, bits: int) -> int:
    """Return the signed integer that has the last bits of a number."""
    return (number + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))


def is_whole(value: torch.Tensor) -> bool:
    """Return whether every element is a whole number."""
    parts = torch.atleast_1d(torch.view_as_real(value) if value.is_complex() else value)
    return _is_each_whole(parts[(slice(1),) * (parts.dim() - 1)][..., :_LOOKED_AT]) and _is_each_whole(parts)


def _is_each_whole(parts: torch.Tensor) -> bool:
    return bool((parts == parts.round()).all())
