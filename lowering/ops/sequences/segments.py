"""Reductions of consecutive segments of a dim, whose lengths or bounds a tensor holds."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import torch

Tensor: TypeAlias = torch.Tensor

_REDUCTIONS = {"sum": ("sum", 0.0), "mean": ("sum", 0.0), "prod": ("prod", 1.0), "max": ("amax", -math.inf), "min": ("amin", math.inf)}


def segment_reduce(data: Tensor, reduce: str, *, lengths: Tensor | None = None, indices: Tensor | None = None,
                   offsets: Tensor | None = None, axis: int = 0, unsafe: bool = False, initial: Any = None) -> Tensor:
    """Compute aten::segment_reduce: (*lead, n, *rest) -> (*lead, segments, *rest), where `axis` is the number of leading dims.

    lengths: (*lead, segments), which sum to n; else offsets: (*lead, segments + 1), from 0 to n. The mean of an empty segment is NaN.
    """
    axis = axis % data.dim()
    assert lengths is not None or offsets is not None
    ends = offsets.narrow(-1, 1, offsets.shape[-1] - 1) if lengths is None else lengths.cumsum(-1)  # type: ignore[union-attr]
    sizes = offsets.diff(dim=-1) if lengths is None else lengths  # type: ignore[union-attr]
    positions = torch.arange(data.shape[axis], device=data.device).unsqueeze(-1)
    segments = (ends.unsqueeze(-2) <= positions).sum(-1)  # (*lead, n): the number of segments that end before
    rest = [1] * (data.dim() - axis - 1)
    name, start = _REDUCTIONS[reduce]
    shape = [*data.shape[:axis], sizes.shape[-1], *data.shape[axis + 1 :]]
    reduced = torch.full(shape, start if initial is None else float(initial), dtype=data.dtype, device=data.device)
    reduced = reduced.scatter_reduce(axis, segments.reshape(*segments.shape, *rest).expand(data.shape), data, name)
    if reduce != "mean":
        return reduced
    counts = sizes.reshape(*sizes.shape, *rest)
    return torch.where(counts > 0, reduced / counts.clamp(min=1), reduced if initial is not None else math.nan)
