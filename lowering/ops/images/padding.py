"""Padding by sizes that are not constants, and of complex numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch.fx import Node

Tensor: TypeAlias = torch.Tensor


def is_dynamic_or_complex(node: Node) -> bool:
    """Return whether a constant_pad_nd node pads by dynamic sizes, or pads complex numbers."""
    return any(isinstance(size, Node) for size in node.args[1]) or node.meta["val"].dtype.is_complex  # type: ignore[union-attr]


def pad_constant(tensor: Tensor, pad: Sequence[Any], value: Any = 0) -> Tensor:
    """Compute aten::constant_pad_nd by concatenating blocks dim by dim. A negative size removes elements."""
    if tensor.dtype.is_complex:
        parts = torch.view_as_real(tensor)
        value = complex(value)
        real, imaginary = pad_constant(parts.select(-1, 0), pad, value.real), pad_constant(parts.select(-1, 1), pad, value.imag)
        return torch.complex(real, imaginary)
    for number, (low, high) in enumerate(zip(pad[::2], pad[1::2], strict=True)):
        dim = tensor.dim() - 1 - number
        for size, in_front in ((low, True), (high, False)):
            tensor = _pad_edge(tensor, dim, size, in_front, value)
    return tensor


def _pad_edge(tensor: Tensor, dim: int, size: Any, in_front: bool, value: Any) -> Tensor:
    if isinstance(size, int) and size == 0:
        return tensor
    if size < 0:
        return tensor.narrow(dim, -size if in_front else 0, tensor.shape[dim] + size)
    shape = [size if position == dim else length for position, length in enumerate(tensor.shape)]
    block = torch.full(shape, value, dtype=tensor.dtype, device=tensor.device)
    return torch.cat([block, tensor] if in_front else [tensor, block], dim)
