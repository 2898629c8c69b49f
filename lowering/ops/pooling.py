"""Adaptive pooling where the input's dims are dynamic: torch-mlir needs its kernel size to be known."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.fx import Node


def to_one(node: Node) -> bool:
    """Whether an adaptive pooling node pools each map to one value, which is a mean at any size."""
    sizes = node.args[1]
    return all(size == 1 for size in (sizes if isinstance(sizes, list | tuple) else [sizes]))  # type: ignore[union-attr]


def adaptive_average(tensor: torch.Tensor, output_size: Sequence[int]) -> torch.Tensor:
    """(..., spatial dims) -> (..., 1, 1): the mean over each map."""
    return torch.mean(tensor, list(range(-len(output_size), 0)), keepdim=True)
