"""Noise for imitated rounding: a function of the bits of each element, so that equal elements round alike and their errors add up."""

from __future__ import annotations

import torch

_MIX_64 = (-7046029254386353131, -4658895280553007687, -7723592293110705685)  # odd, as splitmix64 mixes
_MIX_32 = (-2048144789, -1028477387)  # odd, as MurmurHash3 ends
_CHUNK = 1 << 15  # elements at a time: a cache holds them through all steps
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
    real = value.real.contiguous() if value.is_complex() else value
    found = torch.empty_like(real)
    if found.stride() != real.stride():  # `real` has gaps or overlaps
        real, found = real.contiguous(), torch.empty(real.shape, dtype=real.dtype)
    mix, bits = (_mix_64, torch.int64) if real.element_size() == 8 else (_mix_32, torch.int32)
    salt = _wrap(call * _MIX_64[0], 64)
    for part, noise in zip(*(_flatten(each).view(bits).split(_CHUNK) for each in (real, found)), strict=True):
        mix(part, salt, noise)
    return found


def _flatten(dense: torch.Tensor) -> torch.Tensor:
    """Return the elements of a tensor without gaps in the order of memory, as a view."""
    return dense.as_strided((dense.numel(),), (1,))


def _mix_64(bits: torch.Tensor, salt: int, out: torch.Tensor) -> None:
    """Write noise for 8-byte floats, given as integers, to `out`: its bits are those of a float in [1, 2), which is scaled."""
    torch.add(bits, salt, out=out).mul_(_MIX_64[1])
    out.bitwise_xor_(out >> 29).mul_(_MIX_64[2])
    out.bitwise_xor_(out >> 32).bitwise_and_((1 << 52) - 1).bitwise_or_(1023 << 52)
    out.view(torch.float64).mul_(2).sub_(3)


def _mix_32(bits: torch.Tensor, salt: int, out: torch.Tensor) -> None:
    """Write noise for 4-byte floats, given as integers, to `out`: 24 bits, one more than the fraction of a float holds."""
    torch.add(bits, _wrap(salt ^ (salt >> 32), 32), out=out)
    out.bitwise_xor_(out >> 16).mul_(_MIX_32[0])
    out.bitwise_xor_(out >> 13).mul_(_MIX_32[1])
    out.bitwise_xor_(out >> 16).bitwise_and_((1 << 24) - 1)
    out.view(torch.float32).copy_(out.float().div_(1 << 23).sub_(1))


def _wrap(number: int, bits: int) -> int:
    """Return the signed integer that has the last bits of a number."""
    return (number + (1 << (bits - 1))) % (1 << bits) - (1 << (bits - 1))


def is_whole(value: torch.Tensor) -> bool:
    """Return whether every element is a whole number."""
    parts = torch.atleast_1d(torch.view_as_real(value) if value.is_complex() else value)
    return _is_each_whole(parts[(slice(1),) * (parts.dim() - 1)][..., :_LOOKED_AT]) and _is_each_whole(parts)


def _is_each_whole(parts: torch.Tensor) -> bool:
    return bool((parts == parts.round()).all())
