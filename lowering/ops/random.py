"""Random numbers in terms of uniform and normal ones, which are drawn at run time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch

Tensor: TypeAlias = torch.Tensor
aten = torch.ops.aten


def uniform(size: Sequence[int], *, dtype: torch.dtype | None = None, device: torch.device | None = None, **settings: Any) -> Tensor:
    """Return uniform numbers in [0, 1)."""
    return aten.uniform.default(torch.zeros(size, dtype=dtype or torch.get_default_dtype(), device=device))


def permutation(n: Any, *, dtype: torch.dtype = torch.int64, device: torch.device | None = None, **settings: Any) -> Tensor:
    """Return the numbers below `n` in random order."""
    return uniform([n], dtype=torch.float64, device=device).argsort().to(dtype)


def uniform_like(tensor: Tensor, *, dtype: torch.dtype | None = None, device: torch.device | None = None, **settings: Any) -> Tensor:
    """Return uniform numbers in the shape of a tensor."""
    return uniform(tensor.shape, dtype=dtype or tensor.dtype, device=device or tensor.device)


def standard_normal(size: Sequence[int], *, dtype: torch.dtype | None = None, device: torch.device | None = None,
                    **settings: Any) -> Tensor:
    """Return standard normal numbers."""
    return aten.normal_functional.default(torch.zeros(size, dtype=dtype or torch.get_default_dtype(), device=device))


def standard_normal_like(tensor: Tensor, *, dtype: torch.dtype | None = None, device: torch.device | None = None,
                         **settings: Any) -> Tensor:
    """Return standard normal numbers in the shape of a tensor."""
    return standard_normal(tensor.shape, dtype=dtype or tensor.dtype, device=device or tensor.device)


def normal(mean: Tensor | float, std: Tensor | float = 1.0, *, generator: None = None) -> Tensor:
    """Return normal numbers. At least one of `mean` and `std` is a tensor, and their broadcast shape is that of the result."""
    return standard_normal_like(mean + std) * std + mean  # type: ignore[arg-type]


def normal_of_size(mean: float, std: float, size: Sequence[int], *, generator: None = None, **settings: Any) -> Tensor:
    """Return normal numbers of the shape `size`."""
    return standard_normal(size, **settings) * std + mean


def geometric(tensor: Tensor, p: float, *, generator: None = None) -> Tensor:
    """Return the number of trials of probability `p` until the first success. 1 - u is in (0, 1], so its logarithm is finite."""
    drawn = uniform_like(tensor, dtype=torch.get_default_dtype())
    return (torch.log1p(-drawn) / math.log1p(-p) + 1).floor().to(tensor.dtype) if p < 1 else torch.ones_like(tensor)


def integers(*arguments: Any, dtype: torch.dtype | None = torch.int64, device: torch.device | None = None, **settings: Any) -> Tensor:
    """Compute randint(high, size) or randint(low, high, size): integers in [low, high).

    They are drawn in f64, so that all integers below 2**53 occur.
    """
    low, high, size = (0, *arguments) if len(arguments) == 2 else arguments
    return (uniform(size, dtype=torch.float64, device=device) * (high - low) + low).floor().to(dtype or torch.int64)


def integers_like(tensor: Tensor, *bounds: int, dtype: torch.dtype | None = None, device: torch.device | None = None,
                  **settings: Any) -> Tensor:
    """Compute randint_like(self, high) or randint_like(self, low, high)."""
    return integers(*bounds, tensor.shape, dtype=dtype or tensor.dtype, device=device or tensor.device)


def multinomial(weights: Tensor, num_samples: int, replacement: bool = False, *, generator: None = None) -> Tensor:
    """Draw `num_samples` indices of each row, with probabilities in proportion to the weights.

    Without replacement the indices of the largest weights / e, with e exponential, are a sample in the order of drawing, as in eager.
    """
    weights = weights.float() if weights.dtype in (torch.float16, torch.bfloat16) else weights  # too coarse to draw from
    if replacement and num_samples > 1:
        bounds = weights.cumsum(-1)
        drawn = uniform([*weights.shape[:-1], num_samples], dtype=weights.dtype, device=weights.device) * bounds[..., -1:]
        return (bounds.unsqueeze(-2) <= drawn.unsqueeze(-1)).sum(-1)
    waiting = (-torch.log1p(-uniform_like(weights))).clamp(min=torch.finfo(weights.dtype).tiny)
    rates = weights / waiting
    return rates.argmax(-1, keepdim=True) if num_samples == 1 else rates.topk(num_samples)[1]
