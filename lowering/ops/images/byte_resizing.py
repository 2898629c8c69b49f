"""Weighted sums of uint8 pixels with eager's fixed-point weights, which it rounds to int16: results are equal to the last bit."""

from __future__ import annotations

from typing import TypeAlias

import torch

Tensor: TypeAlias = torch.Tensor
_MOST_BITS = 22


def merge_taps(places: Tensor, weights: Tensor) -> Tensor:
    """Return weights (output, tap) where the first of several taps at a place, as at a border, has the sum of theirs, the others 0."""
    is_same = places.unsqueeze(-1) == places.unsqueeze(-2)
    is_first = ~(is_same & torch.ones_like(is_same[0]).tril(-1)).any(-1)
    return torch.where(is_first, (is_same * weights.unsqueeze(-2)).sum(-1), 0)


def add_weighted(pixels: Tensor, weights: Tensor) -> Tensor:
    """Return the sums over the last dim of uint8 pixels (..., output, tap) times weights (output, tap), float64, as uint8.

    The weights have as many fraction bits as let the largest one fit 16 bits.
    """
    largest = weights.amax()
    powers = 2.0 ** torch.arange(1, _MOST_BITS + 1, dtype=torch.float64, device=weights.device)
    bits = ((largest * powers + 0.5).to(torch.int64) < 1 << 15).sum()
    scaled = weights * 2.0 ** bits.to(torch.float64)
    rounded = torch.where(scaled < 0, scaled - 0.5, scaled + 0.5).to(torch.int32)
    half = torch.bitwise_left_shift(torch.ones_like(bits), bits - 1)
    sums = (pixels.to(torch.int32) * rounded).sum(-1) + half
    return torch.bitwise_right_shift(sums, bits).clamp(0, 255).to(torch.uint8)
