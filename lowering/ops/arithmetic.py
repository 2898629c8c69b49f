"""Arithmetic that torch-mlir lowers to other numbers than torch's."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import Node

Tensor = torch.Tensor


def remainder(left: Any, right: Any) -> Tensor:
    """left - floor(left / right) * right: the op itself, then moved into the sign of the divisor where a level gave it the dividend's."""
    rest = torch.remainder(left, right)
    return torch.where((rest != 0) & ((rest < 0) ^ (right < 0)), rest + right, rest)


def is_integral(node: Node) -> bool:
    """Whether a node computes integers."""
    return not node.meta["val"].dtype.is_floating_point


def fmod(left: Any, right: Any) -> Tensor:
    """The remainder in the sign of the dividend."""
    rest = torch.remainder(left, right)
    return torch.where((rest != 0) & ((rest < 0) ^ (left < 0)), rest - right, rest)


def prelu(tensor: Tensor, weight: Tensor) -> Tensor:
    """x where positive, else weight * x; a weight per channel runs along dim 1."""
    if weight.dim() == 1 and weight.shape[0] != 1:
        weight = weight.reshape(-1, *(1 for _ in range(tensor.dim() - 2)))
    return torch.where(tensor > 0, tensor, weight * tensor)


def clamp(tensor: Tensor, low: Tensor | None = None, high: Tensor | None = None) -> Tensor:
    """min(max(tensor, low), high), broadcast."""
    if low is not None:
        tensor = torch.maximum(tensor, low)
    return tensor if high is None else torch.minimum(tensor, high)
