"""Window functions of a length that may be dynamic, by eager's formulas."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeAlias

import torch

Tensor: TypeAlias = torch.Tensor


def _make_window(formula: Callable[..., Tensor], **defaults: float) -> Callable[..., Tensor]:
    """Return a window function of torch. formula: takes the indices, the length of a period, and the parameters that have `defaults`."""

    def window(window_length: Any, periodic: bool = True, *given: float, dtype: torch.dtype | None = None, device: Any = None,
               layout: Any = None, pin_memory: Any = None, requires_grad: bool = False,
               **named: float) -> Tensor:
        parameters = defaults | dict(zip(defaults, given, strict=False)) | named
        places = torch.arange(window_length, dtype=dtype or torch.get_default_dtype(), device=device)
        period = window_length if periodic else torch.sym_max(window_length - 1, 1)
        return torch.where(torch.scalar_tensor(window_length, device=device) == 1, 1.0, formula(places, period, **parameters))

    return window


def _cosine(places: Tensor, period: Any, alpha: float = 0.5, beta: float = 0.5) -> Tensor:
    return alpha - beta * torch.cos(places * (2 * math.pi / period))


def _blackman(places: Tensor, period: Any) -> Tensor:
    angles = places * (math.pi / period)
    return 0.42 - 0.5 * torch.cos(angles * 2) + 0.08 * torch.cos(angles * 4)


def _bartlett(places: Tensor, period: Any) -> Tensor:
    rising = places * (2 / period)
    return torch.where(places <= period / 2, rising, 2 - rising)


def _kaiser(places: Tensor, period: Any, beta: float) -> Tensor:
    centered = places * (2 / period) - 1
    return torch.i0(beta * torch.sqrt(1 - centered**2)) / torch.i0(torch.scalar_tensor(beta, dtype=places.dtype))


hann = _make_window(_cosine)
hamming = _make_window(_cosine, alpha=0.54, beta=0.46)
blackman = _make_window(_blackman)
bartlett = _make_window(_bartlett)
kaiser = _make_window(_kaiser, beta=12.0)
