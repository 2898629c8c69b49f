"""Histograms with a constant number of bins."""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
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


def histogram(tensor: Tensor, bins: int | Tensor = 100, *, range: Sequence[float] | None = None,  # noqa: A002 - the names of the schema
              weight: Tensor | None = None, density: bool = False) -> tuple[Tensor, Tensor]:
    """Compute aten::histogram: the counts (bins), and the edges (bins + 1)."""
    points = tensor.reshape(-1, 1)
    edges = bins if isinstance(bins, torch.Tensor) else make_edges(points, [bins], range=range)[0]
    return count_in_boxes(points, [edges], weight=None if weight is None else weight.reshape(-1), density=density), edges


def make_edges(points: Tensor, bins: Sequence[int], *, range: Sequence[float] | None = None,  # noqa: A002
               weight: Tensor | None = None, density: bool = False) -> list[Tensor]:
    """Compute aten::_histogramdd_bin_edges: the edges of each coordinate of the points (..., coordinates), (bins + 1) each.

    range: low and high end of each coordinate; by default those of the points.
    """
    dtype = points.dtype
    if range is not None:
        ends = [(torch.scalar_tensor(low, dtype=dtype), torch.scalar_tensor(high, dtype=dtype))
                for low, high in zip(range[::2], range[1::2], strict=True)]
    else:
        infinity = points.new_full([1], torch.inf)  # so that there is an element to choose
        columns = points.flatten(0, -2).unbind(-1)
        ends = [(torch.cat([column, infinity]).amin(), torch.cat([column, -infinity]).amax()) for column in columns]
    return [_make_edges_between(low, high, count) for (low, high), count in zip(ends, bins, strict=True)]


def _make_edges_between(low: Tensor, high: Tensor, count: int) -> Tensor:
    """Return count + 1 edges, counted from the nearer end as eager does. Without points they go from 0 to 1."""
    is_empty, is_point = low > high, low == high
    low = torch.where(is_empty, 0, torch.where(is_point, low - 0.5, low))
    high = torch.where(is_empty, 1, torch.where(is_point, high + 0.5, high))
    places, step = torch.arange(count + 1, dtype=low.dtype), (high - low) / count
    return torch.where(places < (count + 1) // 2, low + step * places, high - step * (count - places))


def count_by_number(points: Tensor, bins: Sequence[int], *, range: Sequence[float] | None = None,  # noqa: A002
                    weight: Tensor | None = None, density: bool = False) -> Tensor:
    """Compute aten::_histogramdd_from_bin_cts."""
    return count_in_boxes(points, make_edges(points, bins, range=range), weight=weight, density=density)


def count_in_boxes(points: Tensor, edges: Sequence[Tensor], *, weight: Tensor | None = None, density: bool = False) -> Tensor:
    """Compute aten::_histogramdd_from_bin_tensors: the weights (1 by default) of the points (..., coordinates) in each box.

    The last box of a coordinate has its upper edge too. Points outside, and NaN, are in no box.
    """
    columns = points.flatten(0, -2).unbind(-1)
    counts = [edge.shape[0] - 1 for edge in edges]
    amounts = torch.ones_like(columns[0]) if weight is None else weight.reshape(-1).to(points.dtype)
    places = torch.zeros_like(columns[0], dtype=torch.int64)
    for column, edge, count in zip(columns, edges, counts, strict=True):
        is_inside = (column >= edge[0]) & (column <= edge[-1])
        amounts = torch.where(is_inside, amounts, 0)
        place = (torch.searchsorted(edge, column, right=True) - 1).clamp(max=count - 1)
        places = places * count + torch.where(is_inside, place, 0)
    found = points.new_zeros([math.prod(counts)]).scatter_add(0, places, amounts).reshape(counts)
    if density:
        found = found / found.sum()
        for dim, edge in enumerate(edges):
            found = found / edge.diff().reshape([-1 if place == dim else 1 for place in builtins.range(len(edges))])
    return found


def _make_empty(tensor: Tensor, bins: int | Tensor = 100, **_: Any) -> tuple[Tensor, Tensor]:
    edges = bins.shape[0] if isinstance(bins, torch.Tensor) else bins + 1
    return tensor.new_empty([edges - 1]), tensor.new_empty([edges])


def _make_empty_edges(points: Tensor, bins: Sequence[int], **_: Any) -> list[Tensor]:
    return [points.new_empty([count + 1]) for count in bins]


def _make_empty_boxes(points: Tensor, bins: Sequence[int | Tensor], **_: Any) -> Tensor:
    return points.new_empty([count.shape[0] - 1 if isinstance(count, torch.Tensor) else count for count in bins])


# torch has no kernels of these for shapes alone, without which torch.export cannot capture them.
_LIBRARY = torch.library.Library("aten", "FRAGMENT")
for _name, _shapes in {"histogram.bins_tensor": _make_empty, "histogram.bin_ct": _make_empty,
                       "_histogramdd_bin_edges": _make_empty_edges, "_histogramdd_from_bin_cts": _make_empty_boxes,
                       "_histogramdd_from_bin_tensors": _make_empty_boxes}.items():
    torch.library.register_fake(f"aten::{_name}", _shapes, lib=_LIBRARY)
