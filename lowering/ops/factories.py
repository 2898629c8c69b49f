"""Tensors filled with one number, at shapes that may be dynamic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import Node


def complex_full(size: Sequence[int], fill: complex, *, dtype: torch.dtype | None = None, **placement: Any) -> torch.Tensor:
    """Return a tensor filled with a complex number."""
    parts = {torch.complex128: torch.float64}.get(dtype, torch.float32)  # type: ignore[arg-type]
    device = placement.get("device")
    real, imaginary = (torch.ops.aten.full.default(size, part, dtype=parts, device=device) for part in (fill.real, fill.imag))
    return torch.complex(real, imaginary)


def complex_number(number: complex, **settings: Any) -> torch.Tensor:
    """Return a complex number as a 0-d tensor."""
    return complex_full((), number, **settings)


def zeros(size: Sequence[int], *, dtype: torch.dtype | None = None, **placement: Any) -> torch.Tensor:
    """Return zeros."""
    return torch.ops.aten.full.default(size, 0, dtype=dtype or torch.get_default_dtype(), device=placement.get("device"))


def zeros_permuted(size: Sequence[int], layout: Sequence[int], *, dtype: torch.dtype | None = None, **placement: Any) -> torch.Tensor:
    """Return zeros, whatever the order of their dims in memory."""
    return zeros(size, dtype=dtype, **placement)


def ones(size: Sequence[int], *, dtype: torch.dtype | None = None, **placement: Any) -> torch.Tensor:
    """Return ones."""
    return torch.ops.aten.full.default(size, 1, dtype=dtype or torch.get_default_dtype(), device=placement.get("device"))


def zeros_like(tensor: torch.Tensor, *, dtype: torch.dtype | None = None, **placement: Any) -> torch.Tensor:
    """Return zeros of the shape of `tensor`."""
    return zeros(tensor.shape, dtype=dtype or tensor.dtype, device=placement.get("device") or tensor.device)


def new_zeros(tensor: torch.Tensor, size: Sequence[int], *, dtype: torch.dtype | None = None, **placement: Any) -> torch.Tensor:
    """Return zeros of the dtype and device of `tensor`."""
    return zeros(size, dtype=dtype or tensor.dtype, device=placement.get("device") or tensor.device)


def new_ones(tensor: torch.Tensor, size: Sequence[int], *, dtype: torch.dtype | None = None, **placement: Any) -> torch.Tensor:
    """Return ones of the dtype and device of `tensor`."""
    return ones(size, dtype=dtype or tensor.dtype, device=placement.get("device") or tensor.device)


def new_zeros_with_dims(tensor: torch.Tensor, other: torch.Tensor, *, self_num_batch_dims: int = 0) -> torch.Tensor:
    """Return zeros of the batch dims of `tensor` and the dims of `other`."""
    return zeros([*tensor.shape[:self_num_batch_dims], *other.shape], dtype=tensor.dtype, device=tensor.device)


def new_zeros_strided(tensor: torch.Tensor, size: Sequence[int], stride: Sequence[int], **settings: Any) -> torch.Tensor:
    """Return zeros. Strides are dropped, since no later level has them."""
    return new_zeros(tensor, size, **settings)


def steps_by_float(node: Node) -> bool:
    """Return whether the number of elements of an arange node is a quotient of floats that depends on sizes."""
    return any(isinstance(bound, Node) for bound in node.args) and any(
        isinstance(bound, float | torch.SymFloat) for bound in map(_read, node.args))


def _read(given: Any) -> Any:
    return given.meta["val"] if isinstance(given, Node) else given


def arange(start: Any, end: Any, step: Any = 1, *, dtype: torch.dtype | None = None, **placement: Any) -> torch.Tensor:
    """Return start, start + step, ... below (for negative steps: above) end."""
    count = torch.sym_max(math.ceil((end - start) / step), 0)
    places = torch.arange(count, device=placement.get("device"))
    first, width = (torch.scalar_tensor(number, dtype=torch.float64) for number in (start, step))
    return (first + places * width).to(dtype or torch.get_default_dtype())


def eye(rows: Any, columns: Any = None, *, dtype: torch.dtype | None = None, **placement: Any) -> torch.Tensor:
    """Return an identity matrix."""
    row = torch.arange(rows, device=placement.get("device")).unsqueeze(-1)
    column = torch.arange(rows if columns is None else columns, device=placement.get("device"))
    return (row == column).to(dtype or torch.get_default_dtype())


def fill(tensor: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    """Return a tensor of the shape and dtype of `tensor`, filled with the element of `value`."""
    return value.to(tensor.dtype).reshape([1] * tensor.dim()).expand(tensor.shape)
