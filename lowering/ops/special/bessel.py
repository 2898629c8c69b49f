"""Bessel functions and scaled error functions.

Near zero they are computed by quadrature of their integrals, which converges exponentially, and far from it by asymptotic series.
"""

from __future__ import annotations

import math
from typing import TypeAlias

import torch

Tensor: TypeAlias = torch.Tensor

_NODES = 32
_FAR_I, _FAR_J = 64.0, 25.0  # the asymptotic series are exact in float32 from here on
_SMALL_Y, _FAR_AIRY, _EULER = 2.0, 8.0, 0.5772156649015329


def i0(x: Tensor) -> Tensor:
    """Return the modified Bessel function I_0."""
    return _unscale(i0e(x), x, 1.0)


def i0e(x: Tensor) -> Tensor:
    """Return exp(-|x|) I_0(x)."""
    return _scaled_i(_to_floating(x).abs(), 0)


def i1(x: Tensor) -> Tensor:
    """Return the modified Bessel function I_1."""
    return _unscale(i1e(x), x, torch.sign(_to_floating(x)))


def i1e(x: Tensor) -> Tensor:
    """Return exp(-|x|) I_1(x)."""
    x = _to_floating(x)
    square = x * x
    near = x / 2 * (1 + square / 8 * (1 + square / 24 * (1 + square / 48))) * torch.exp(-x.abs())
    return torch.where(x.abs() < 0.5, near, _scaled_i(x.abs(), 1) * torch.sign(x))


def j0(x: Tensor) -> Tensor:
    """Return the Bessel function J_0."""
    return _j(_to_floating(x).abs(), 0)


def j1(x: Tensor) -> Tensor:
    """Return the Bessel function J_1."""
    return _j(_to_floating(x).abs(), 1) * torch.sign(_to_floating(x))


def k0(x: Tensor) -> Tensor:
    """Return the modified Bessel function K_0. It is infinite at 0 and NaN below."""
    return k0e(x) * torch.exp(-_to_floating(x))


def k0e(x: Tensor) -> Tensor:
    """Return exp(x) K_0(x)."""
    return _scaled_k(_to_floating(x), 0)


def k1(x: Tensor) -> Tensor:
    """Return the modified Bessel function K_1. It is infinite at 0 and NaN below."""
    return k1e(x) * torch.exp(-_to_floating(x))


def k1e(x: Tensor) -> Tensor:
    """Return exp(x) K_1(x)."""
    return _scaled_k(_to_floating(x), 1)


def spherical_j0(x: Tensor) -> Tensor:
    """Return sin(x) / x, which is 1 at 0 and 0 at infinity."""
    x = _to_floating(x)
    ratio = torch.where(x == 0, 1.0, torch.sin(x) / x)
    return torch.where(x.abs() == math.inf, 0.0, ratio)


def erfcx(x: Tensor) -> Tensor:
    """Return exp(x^2) erfc(x), for large numbers by its continued fraction."""
    x = _to_floating(x)
    below = x
    for step in range(30 if x.dtype is torch.float64 else 12, 0, -1):
        below = x + step / 2 / below
    return torch.where(x >= 3, 1 / (math.sqrt(math.pi) * below), torch.exp(x * x) * torch.special.erfc(x))


def ndtri(p: Tensor) -> Tensor:
    """Return the quantiles of the normal distribution.

    Near 0 and 1, where 2 p - 1 is rounded, by Halley's iteration on the logarithm of the distribution function.
    """
    p = _to_floating(p)
    tail = torch.minimum(p, 1 - p)
    is_tail = (tail > 0) & (tail < 0.1)
    wanted = torch.log(torch.where(is_tail, tail, 0.05))
    size = torch.sqrt(-2 * wanted)
    for _ in range(3):  # three give full precision in float64
        ratio = erfcx(size / math.sqrt(2))
        hazard = math.sqrt(2 / math.pi) / ratio
        step = (wanted + size * size / 2 - torch.log(ratio / 2)) / hazard
        size = size - step / (1 - step * (hazard - size) / 2)
    central = math.sqrt(2) * torch.special.erfinv(2 * p - 1)
    ends = torch.where(tail == 0, torch.where(p < 0.5, -math.inf, math.inf), central)
    return torch.where(is_tail, torch.where(p < 0.5, -size, size), ends)


def _unscale(scaled: Tensor, x: Tensor, sign: Tensor | float) -> Tensor:
    """Return scaled * exp(|x|), in two steps: the product may be finite although the factor is not."""
    x = _to_floating(x)
    half = torch.exp(x.abs() / 2)
    beyond = (half == math.inf) & torch.isfinite(x)  # the factor may be rounded to 0 there
    return torch.where(beyond, sign * math.inf, scaled * half * half)


def _to_floating(x: Tensor) -> Tensor:
    return x if x.dtype.is_floating_point else x.to(torch.get_default_dtype())


def _midpoints(x: Tensor, count: int) -> Tensor:
    """Return the midpoints of `count` equal parts of [0, 1]."""
    return (torch.arange(count, device=x.device).to(x.dtype) + 0.5) / count


def _scaled_i(x: Tensor, order: int) -> Tensor:
    """Return the mean of exp(x (cos t - 1)) cos(order t) over [0, pi], for x >= 0."""
    angles = math.pi * _midpoints(x, _NODES)
    near = (torch.exp(x.clamp(max=_FAR_I).unsqueeze(-1) * (torch.cos(angles) - 1)) * torch.cos(order * angles)).mean(-1)
    far = _series(1 / (8 * x.clamp(min=_FAR_I)), order, alternating=True) / torch.sqrt(2 * math.pi * x)
    return torch.where(x > _FAR_I, far, near + 0 * x)


def _series(step: Tensor, order: int, alternating: bool) -> Tensor:
    """Return 1 -+ (m - 1) s + (m - 1)(m - 9) s^2 / 2! -+ ..., where m = 4 order^2."""
    total, term = torch.ones_like(step), torch.ones_like(step)
    for number in range(1, 6):
        factor = (4 * order * order - (2 * number - 1) ** 2) / number
        term = term * step * (-factor if alternating else factor)
        total = total + term
    return total


def _j(x: Tensor, order: int) -> Tensor:
    """Return the mean of cos(order t - x sin t) over [0, pi], or Hankel's expansion for large x."""
    angles = math.pi * _midpoints(x, _NODES)
    near = torch.cos(order * angles - x.clamp(max=_FAR_J).unsqueeze(-1) * torch.sin(angles)).mean(-1)
    even, odd, phase = _expand(x, order)
    far = torch.sqrt(2 / (math.pi * x)) * (even * torch.cos(phase) - odd * torch.sin(phase))
    return torch.where(x > _FAR_J, far, near + 0 * x)


def _expand(x: Tensor, order: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return the two series of Hankel's expansion, and its phase."""
    step = 1 / (8 * x.clamp(min=_FAR_J))
    even, odd, term = torch.ones_like(x), torch.zeros_like(x), torch.ones_like(x)
    for number in range(1, 8):
        term = term * step * ((4 * order * order - (2 * number - 1) ** 2) / number)
        sign = -1 if number % 4 in (2, 3) else 1
        even, odd = (even + sign * term, odd) if number % 2 == 0 else (even, odd + sign * term)
    return even, odd, x - (0.5 * order + 0.25) * math.pi


def _y(x: Tensor, order: int) -> Tensor:
    """Return Y of an order of 0 or 1: its series for small x, Schlaefli's integrals, or Hankel's expansion. It is NaN below 0."""
    even, odd, phase = _expand(x, order)
    far = torch.sqrt(2 / (math.pi * x)) * (even * torch.sin(phase) + odd * torch.cos(phase))
    middle = x.clamp(_SMALL_Y, _FAR_J).unsqueeze(-1)
    steps, weights = _smooth_steps(x, 4 * _NODES)
    angles = math.pi * steps
    waves = (torch.sin(middle * torch.sin(angles) - order * angles) * weights).mean(-1)
    limit = torch.asinh(20 / middle)
    places = limit * steps
    grown = torch.exp(order * places) + (-1) ** order * torch.exp(-order * places)
    decays = (grown * torch.exp(-middle * torch.sinh(places)) * weights * limit).mean(-1) / math.pi
    value = torch.where(x > _FAR_J, far, torch.where(x > _SMALL_Y, waves - decays, _y_series(x, order)))
    return torch.where(x > 0, value, torch.where(x == 0, -math.inf, math.nan))  # NaN of infinity, as in eager


def _y_series(x: Tensor, order: int) -> Tensor:
    """Return Y of an order of 0 or 1 by its series, for x of at most 2."""
    half = x.clamp(max=_SMALL_Y) / 2
    square, harmonic = half * half, 0.0
    term, total = half**order, torch.zeros_like(x)  # (-1)^k (x / 2)^(2 k + order) / (k! (k + order)!)
    first = torch.zeros_like(x)
    for number in range(10):
        both = 2 * harmonic + (1 / (number + 1) if order else 0)  # of the harmonic numbers of k and k + order
        first, total = first + term, total + term * both
        term = term * square * (-1 / ((number + 1) * (number + 1 + order)))
        harmonic += 1 / (number + 1)
    value = (2 * (torch.log(half) + _EULER) * first - total) / math.pi
    return value - 1 / (math.pi * half) if order else value


def _smooth_steps(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return places in [0, 1] and their weights: the midpoint rule, made smooth at both ends (Sidi)."""
    angles = 2 * math.pi * _midpoints(x, count)
    places = _midpoints(x, count) - (8 * torch.sin(angles) - torch.sin(2 * angles)) / (12 * math.pi)
    return places, 2 / 3 * (1 - torch.cos(angles)) ** 2


def y0(x: Tensor) -> Tensor:
    """Return the Bessel function Y_0. It is -inf at 0 and NaN below."""
    return _y(_to_floating(x), 0)


def y1(x: Tensor) -> Tensor:
    """Return the Bessel function Y_1. It is -inf at 0 and NaN below."""
    return _y(_to_floating(x), 1)


def airy_ai(x: Tensor) -> Tensor:
    """Return Airy's Ai: the integral of exp(i (z^3 / 3 + x z)) over a line above the real axis, or its expansion far below 0."""
    x = _to_floating(x)
    close = x.clamp(-_FAR_AIRY, 110)
    height = torch.where(x > 1, torch.sqrt(close.clamp(min=1)), torch.rsqrt(close.abs().clamp(min=1))).unsqueeze(-1)
    steps, weights = _smooth_steps(x, 8 * _NODES)
    places = torch.sqrt(18 / height) * steps
    phase = places**3 / 3 + (close.unsqueeze(-1) - height * height) * places
    grown = torch.exp(height * (height * height / 3 - close.unsqueeze(-1)))
    near = (torch.exp(-height * places * places) * torch.cos(phase) * weights * torch.sqrt(18 / height) * grown).mean(-1) / math.pi
    size = x.clamp(max=-_FAR_AIRY).abs()
    angle = 2 / 3 * size * torch.sqrt(size)
    even = 1 - 385 / 10368 / angle**2 + 37182145 / 644972544 / angle**4
    odd = 5 / 72 / angle - 85085 / 2239488 / angle**3
    far = (torch.cos(angle - math.pi / 4) * even + torch.sin(angle - math.pi / 4) * odd) / torch.sqrt(math.pi * torch.sqrt(size))
    value = torch.where(x < -_FAR_AIRY, far, torch.where(x > 103.892, 0.0, near))
    return torch.where(torch.isfinite(x), value, math.nan)


def _scaled_k(x: Tensor, order: int) -> Tensor:
    """Return the integral of exp(-x (cosh t - 1)) cosh(order t) over t >= 0, up to where the integrand vanishes."""
    positive = torch.where(x > 0, x, 1.0)
    limit = torch.acosh(1 + 40 / positive)
    places = limit.unsqueeze(-1) * _midpoints(x, 2 * _NODES)
    values = torch.exp(-positive.unsqueeze(-1) * (torch.cosh(places) - 1)) * torch.cosh(order * places)
    integral = values.mean(-1) * limit
    return torch.where(x > 0, integral, torch.where(x == 0, math.inf, math.nan))
