"""Arithmetic that torch-mlir lowers to other numbers than torch's."""

from __future__ import annotations

from typing import Any

import torch

Tensor = torch.Tensor


def remainder(left: Any, right: Any) -> Tensor:
    """left - floor(left / right) * right, exactly: the C remainder, moved into the sign of the divisor."""
    rest = torch.fmod(left, right)
    return torch.where((rest != 0) & ((rest < 0) != (right < 0)), rest + right, rest)


def clamp(tensor: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """min(max(tensor, low), high), broadcast."""
    if low is not None:
        tensor = torch.maximum(tensor, low)
    return tensor if high is None else torch.minimum(tensor, high)
