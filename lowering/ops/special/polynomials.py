"""Orthogonal polynomials, whose recurrences have a data-dependent number of steps: Chebyshev's in closed form, others as loops."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch

from lowering.ops import iteration

Tensor: TypeAlias = torch.Tensor


def chebyshev_t(x: Tensor, n: Tensor) -> Tensor:
    """Return T_n(x) = cos(n t) where x = cos t."""
    return _evaluate(x, n, lambda t, n: torch.cos(n * t), lambda t, n: torch.cosh(n * t), lambda n: torch.ones_like(n), 0)


def chebyshev_u(x: Tensor, n: Tensor) -> Tensor:
    """Return U_n(x) = sin((n + 1) t) / sin(t)."""
    return _evaluate(x, n, lambda t, n: torch.sin((n + 1) * t) / torch.sin(t), lambda t, n: torch.sinh((n + 1) * t) / torch.sinh(t),
                     lambda n: n + 1, 0)  # fmt: skip


def chebyshev_v(x: Tensor, n: Tensor) -> Tensor:
    """Return V_n(x) = cos((n + 1/2) t) / cos(t / 2), where V_n(-x) = (-1)^n W_n(x)."""
    return _evaluate_half_angle(x, n, third_kind=True)


def chebyshev_w(x: Tensor, n: Tensor) -> Tensor:
    """Return W_n(x) = sin((n + 1/2) t) / sin(t / 2)."""
    return _evaluate_half_angle(x, n, third_kind=False)


def shift(polynomial: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Return the function of the polynomial of 2x - 1."""

    def evaluate(x: Tensor, n: Tensor) -> Tensor:
        return polynomial(x + x - 1, n)

    return evaluate


def _promote(x: Tensor, n: Tensor) -> tuple[Tensor, Tensor]:
    """Return x and n in x's floating dtype, with n truncated to an integer."""
    dtype = torch.promote_types(x.dtype, n.dtype)
    dtype = dtype if dtype.is_floating_point else torch.get_default_dtype()
    x, n = torch.broadcast_tensors(x.to(dtype), n.to(dtype))
    return x, torch.trunc(n)


def _sign(x: Tensor, n: Tensor) -> Tensor:
    """Return (-1)^n where x is negative, else 1."""
    odd = n - 2 * torch.floor(n / 2)
    return torch.where(x < 0, 1 - 2 * odd, 1.0)


def _evaluate(x: Tensor, n: Tensor, inside: Callable[..., Tensor], outside: Callable[..., Tensor], at_one: Callable[[Tensor], Tensor],
              below: float) -> Tensor:
    """Return a polynomial with the parity of its degree.

    It is computed by the angle of |x|, inside and outside of [-1, 1]. below: its value for negative degrees.
    """
    x, n = _promote(x, n)
    size = x.abs()
    value = torch.where(size < 1, inside(torch.acos(size.clamp(max=1)), n), outside(torch.acosh(size.clamp(min=1)), n))
    value = torch.where(size == 1, at_one(n), value) * _sign(x, n)
    return torch.where(n < 0, below, value)


def _evaluate_half_angle(x: Tensor, n: Tensor, third_kind: bool) -> Tensor:
    x, n = _promote(x, n)
    size = x.abs()
    narrow, wide, odd = torch.acos(size.clamp(max=1)), torch.acosh(size.clamp(min=1)), n + 0.5
    cosines = torch.where(size < 1, torch.cos(odd * narrow) / torch.cos(narrow / 2), torch.cosh(odd * wide) / torch.cosh(wide / 2))
    sines = torch.where(size < 1, torch.sin(odd * narrow) / torch.sin(narrow / 2), torch.sinh(odd * wide) / torch.sinh(wide / 2))
    cosines, sines = torch.where(size == 1, 1.0, cosines), torch.where(size == 1, 2 * n + 1, sines)
    value = torch.where(x >= 0, cosines, sines) if third_kind else torch.where(x >= 0, sines, cosines)
    return torch.where(n < 0, 0.0, value * _sign(x, n))


def hermite_h(x: Tensor, n: Tensor) -> Tensor:
    """Return the physicists' H_n(x). Beyond degree 128, or 512 of float64, it is NaN, as in eager."""
    return _recur(x, n, lambda x: x + x, lambda k, x, q, p: (x + x) * q - 2 * k * p, is_limited=True)


def hermite_he(x: Tensor, n: Tensor) -> Tensor:
    """Return the probabilists' He_n(x), with the limits of `hermite_h`."""
    return _recur(x, n, lambda x: x, lambda k, x, q, p: x * q - k * p, is_limited=True)


def laguerre_l(x: Tensor, n: Tensor) -> Tensor:
    """Return the Laguerre polynomial L_n(x)."""
    return _recur(x, n, lambda x: 1 - x, lambda k, x, q, p: ((k + k + (1 - x)) * q - k * p) / (k + 1))


def legendre_p(x: Tensor, n: Tensor) -> Tensor:
    """Return the Legendre polynomial P_n(x)."""
    return _recur(x, n, lambda x: x, lambda k, x, q, p: ((k + k + 1) * x * q - k * p) / (k + 1))


def _recur(x: Tensor, n: Tensor, first: Callable[[Tensor], Tensor], follow: Callable[..., Tensor], is_limited: bool = False) -> Tensor:
    """Return p_n(x), where p_0 = 1, p_1 = first(x), p_(k+1) = follow(k, x, p_k, p_(k-1)), and 0 for negative degrees."""
    x, n = (part.clone(memory_format=torch.contiguous_format) for part in _promote(x, n))
    is_beyond = n > (512 if x.dtype == torch.float64 else 128)
    degrees = torch.where(is_beyond, 0, n) if is_limited else n

    def goes_on(k: Tensor, q: Tensor, p: Tensor, x: Tensor, n: Tensor) -> Tensor:
        return (n > k).any()

    def step(k: Tensor, q: Tensor, p: Tensor, x: Tensor, n: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return k + 1, torch.where(n > k, follow(k, x, q, p), q), torch.where(n > k, q, p)

    start = torch.ones((), dtype=x.dtype), first(x), torch.ones_like(x)
    value = iteration.iterate(goes_on, step, start, (x, degrees))[1]
    value = torch.where(n == 0, 1, torch.where(n > 0, value, 0))
    return torch.where(is_beyond, torch.nan, value) if is_limited else value
