"""Powers of integers. XLA reads the lowest six bits of an exponent only: it gives 1 for 0 ** 64."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch.fx import Node

from lowering.ops.division import to_pair

Tensor: TypeAlias = torch.Tensor

_BITS = 6


def needs_decomposition(node: Node) -> bool:
    """Return whether a node computes integers or bools, with an exponent that is a tensor, a bool, or too large for XLA."""
    dtype = node.meta["val"].dtype
    if dtype.is_floating_point or dtype.is_complex:
        return False
    exponent = node.args[1]
    return isinstance(exponent, Node | bool) or exponent >= 2**_BITS  # type: ignore[operator]


def power(base: Any, exponent: Any) -> Tensor:
    """Return base ** exponent, wrapped around as products of integers are. A negative exponent of a tensor gives 0, 1 or -1."""
    dtype = torch.result_type(base, exponent)
    bases, exponents = to_pair(base, exponent, dtype)
    if dtype is torch.bool:
        return bases | ~exponents
    if isinstance(base, int) and base % 2 == 0:
        most = 2**_BITS - 1  # 2 ** 64 is 0 in every dtype
        return torch.where(exponents > most, 0, _raise(bases, exponents.clamp(max=most)))
    return _combine(bases, exponents, _find_length(exponent, dtype))


def _raise(bases: Tensor, exponents: Tensor) -> Tensor:
    return torch.ops.prims.pow(bases, exponents)


def _count_bits(dtype: torch.dtype) -> int:
    return 1 if dtype is torch.bool else torch.iinfo(dtype).max.bit_length()


def _find_length(exponent: Any, dtype: torch.dtype) -> int:
    """Return how many bits an exponent may have."""
    return exponent.bit_length() if isinstance(exponent, int) else min(_count_bits(exponent.dtype), _count_bits(dtype))


def _combine(bases: Tensor, exponents: Tensor, length: int) -> Tensor:
    """Return the power as a product of one factor for each six of an exponent's bits."""
    result, last = _raise(bases, exponents & (2**_BITS - 1)), bases
    for shift in range(_BITS, length, _BITS):
        last = _raise(last, torch.full_like(last, 2 ** (_BITS - 1)))
        last = last * last
        result = result * _raise(last, (exponents >> shift) & (2**_BITS - 1))
    sign = torch.where(bases == -1, 1 - 2 * (exponents & 1), 0)
    return torch.where(exponents < 0, torch.where(bases == 1, 1, sign), result)
