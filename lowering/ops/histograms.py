"""Histograms with a constant number of bins."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch

Tensor: TypeAlias = torch.Tensor


def histc(tensor: Tensor, bins: int = 100, min: Any = 0, max: Any = 0,  # noqa: A002 - the names of the schema
          counted: Tensor | None = None) -> Tensor:
    """Compute aten::histc: the counts (bins) of elements in bins of one width. The range is that of the elements if `min` equals `max`.

    Elements outside of the range, and NaN, are in no bin. Eager refuses elements that give no finite range; here all counts are 0 then.
    counted: which elements, in order, are no padding (all by default).
    """
    values = tensor.reshape(-1)
    low, high = (torch.scalar_tensor(bound, dtype=tensor.dtype) for bound in (min, max))
    if min == max:
        infinity = values.new_full([1], torch.inf)  # so that there is an element to choose
        lows, highs = (values, values) if counted is None else (torch.where(counted, values, fill) for fill in (torch.inf, -torch.inf))
        low, high = torch.cat([lows, infinity]).amin(), torch.cat([highs, -infinity]).amax()
        is_point = low == high
        low, high = torch.where(is_point, low - 1, low), torch.where(is_point, high + 1, high)
    is_inside = (values >= low) & (values <= high)
    is_inside = is_inside if counted is None else is_inside & counted
    width = torch.where(is_inside, high - low, 1)  # no constant: XLA multiplies by the reciprocal of one, which rounds otherwise
    steps = torch.where(is_inside, (values - low) * torch.scalar_tensor(bins, dtype=tensor.dtype) / width, 0)
    places = torch.clamp_max(steps.to(torch.int64), bins - 1)  # the last bin has its upper end too
    return values.new_zeros([bins]).scatter_add(0, places, is_inside.to(tensor.dtype))
