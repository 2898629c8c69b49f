"""Tensors filled with one number, at shapes that may be dynamic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch


def zeros(size: Sequence[int], *, dtype: torch.dtype | None = None, **placement: Any) -> torch.Tensor:
    return torch.ops.aten.full.default(size, 0, dtype=dtype or torch.get_default_dtype(), device=placement.get("device"))


def ones(size: Sequence[int], *, dtype: torch.dtype | None = None, **placement: Any) -> torch.Tensor:
    return torch.ops.aten.full.default(size, 1, dtype=dtype or torch.get_default_dtype(), device=placement.get("device"))
