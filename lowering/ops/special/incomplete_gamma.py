"""The regularized incomplete gamma functions, by their series and continued fraction: as many terms as the elements need."""

from __future__ import annotations

import math
from typing import TypeAlias

import torch

from lowering.ops import iteration

Tensor: TypeAlias = torch.Tensor

_MOST = 2000  # terms, as in eager


def lower(a: Tensor, x: Tensor) -> Tensor:
    """Compute aten::igamma: P(a, x)."""
    a, x = _promote(a, x)
    value = torch.where(_is_in_series(a, x), _sum_series(a, x), 1 - _divide_on(a, x))
    return _settle(a, x, value, at_zero=0.0)


def upper(a: Tensor, x: Tensor) -> Tensor:
    """Compute aten::igammac: Q(a, x) = 1 - P(a, x)."""
    a, x = _promote(a, x)
    value = torch.where(_is_in_series(a, x), 1 - _sum_series(a, x), _divide_on(a, x))
    return _settle(a, x, value, at_zero=1.0)


def _promote(a: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
    dtype = torch.promote_types(a.dtype, x.dtype)
    dtype = dtype if dtype.is_floating_point else torch.get_default_dtype()
    both = torch.broadcast_tensors(a.to(dtype), x.to(dtype))
    return both[0].clone(memory_format=torch.contiguous_format), both[1].clone(memory_format=torch.contiguous_format)


def _settle(a: Tensor, x: Tensor, value: Tensor, at_zero: float) -> Tensor:
    """Return `value` with the limits at 0 and infinity. at_zero: the value at x = 0."""
    value = torch.where(a.isnan() | x.isnan(), math.nan, value)
    value = torch.where(x == 0, at_zero, torch.where(x == math.inf, 1 - at_zero, value))
    value = torch.where(a == 0, torch.where(x > 0, 1 - at_zero, math.nan), value)
    value = torch.where(a == math.inf, torch.where(x == math.inf, math.nan, at_zero), value)
    return torch.where((a < 0) | (x < 0), math.nan, value)


def _is_in_series(a: Tensor, x: Tensor) -> Tensor:
    return x < torch.maximum(a + 1, torch.ones_like(a))


def _factor(a: Tensor, x: Tensor) -> Tensor:
    """Return x^a exp(-x) / gamma(a)."""
    return torch.exp(a * torch.log(x) - x - torch.lgamma(a))


def _inside(a: Tensor, x: Tensor, is_used: Tensor) -> tuple[Tensor, Tensor]:
    """Return arguments for which the terms end, where the others are not used."""
    is_used = is_used & (a > 0) & (x > 0) & torch.isfinite(a) & torch.isfinite(x)
    return torch.where(is_used, a, 1), torch.where(is_used, x, 1)


def _sum_series(a: Tensor, x: Tensor) -> Tensor:
    """Return P as x^a exp(-x) / gamma(a + 1) * (1 + x / (a + 1) + x^2 / ((a + 1) (a + 2)) + ...)."""
    a, x = _inside(a, x, _is_in_series(a, x))
    precision = torch.finfo(x.dtype).eps

    def goes_on(number: Tensor, term: Tensor, total: Tensor, a: Tensor, x: Tensor) -> Tensor:
        return (number < _MOST) & (term > precision / 2 * total).any()

    def step(number: Tensor, term: Tensor, total: Tensor, a: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        following = term * (x / (a + number))
        return number + 1, following, total + following

    start = torch.ones((), dtype=x.dtype), torch.ones_like(x), torch.ones_like(x)
    return _factor(a, x) / a * iteration.iterate(goes_on, step, start, (a, x))[2]


def _divide_on(a: Tensor, x: Tensor) -> Tensor:
    """Return Q by its continued fraction (Lentz)."""
    a, x = _inside(a, x, ~_is_in_series(a, x))
    is_one = (a == 1) & (x == 1)  # not used, and outside of the fraction's range
    x = torch.where(is_one, 3, x)
    precision, tiny = torch.finfo(x.dtype).eps, 1e-30

    def goes_on(number: Tensor, above: Tensor, below: Tensor, value: Tensor, change: Tensor, a: Tensor, x: Tensor) -> Tensor:
        return (number < _MOST) & ((change - 1).abs() > precision).any()

    def step(number: Tensor, above: Tensor, below: Tensor, value: Tensor, change: Tensor, a: Tensor, x: Tensor) -> tuple[Tensor, ...]:
        part, base = -number * (number - a), x + 2 * number + 1 - a
        below, above = part * below + base, base + part / above
        below = 1 / torch.where(below.abs() < tiny, tiny, below)
        above = torch.where(above.abs() < tiny, tiny, above)
        return number + 1, above, below, value * below * above, below * above

    base = x + 1 - a
    start = torch.ones((), dtype=x.dtype), torch.full_like(x, 1 / tiny), 1 / base, 1 / base, torch.zeros_like(x)
    return _factor(a, x) * iteration.iterate(goes_on, step, start, (a, x))[3]
