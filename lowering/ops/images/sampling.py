"""Samples of images and volumes at data-dependent coordinates: `grid_sample` in every mode and padding."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch

from lowering.ops.images.cubic import weigh_far, weigh_near

Tensor: TypeAlias = torch.Tensor

BILINEAR, NEAREST, BICUBIC = 0, 1, 2
ZEROS, BORDER, REFLECTION = 0, 1, 2


def grid_sample(tensor: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool) -> Tensor:
    """Compute aten::grid_sampler_2d or 3d: (n, c, spatial dims), (n, output dims, rank) -> (n, c, output dims).

    The last coordinate of a point belongs to the first spatial dim. -1 and 1 are the edges of a map.
    """
    sizes = tensor.shape[2:]
    at = [_to_positions(grid.select(-1, len(sizes) - 1 - dim), size, align_corners) for dim, size in enumerate(sizes)]
    if interpolation_mode == BICUBIC:
        return _sample_bicubic(tensor, at, padding_mode, align_corners)
    at = [_pad_positions(place, size, padding_mode, align_corners) for place, size in zip(at, sizes, strict=True)]
    if interpolation_mode == NEAREST:
        return _gather(tensor, [place.round() for place in at], None)
    low = [place.floor() for place in at]
    edges = [((floor, 1 - (place - floor)), (floor + 1, place - floor)) for place, floor in zip(at, low, strict=True)]
    corners = (zip(*corner, strict=True) for corner in itertools.product(*edges))
    return functools.reduce(torch.add, (_gather(tensor, places, functools.reduce(torch.mul, weights)) for places, weights in corners))


def _to_positions(coordinates: Tensor, size: Any, align_corners: bool) -> Tensor:
    """Convert coordinates in [-1, 1] to positions along a dim."""
    if align_corners:
        return (coordinates + 1) * ((size - 1) / 2)
    return (coordinates + 1) * (size / 2) - 0.5


def _pad_positions(places: Tensor, size: Any, padding_mode: int, align_corners: bool) -> Tensor:
    if padding_mode == ZEROS:
        return places
    if padding_mode == REFLECTION:
        places = _reflect(places, 0, size - 1) if align_corners else _reflect(places, -0.5, size)
    places = torch.where(places != places, 0, places)  # as eager clips NaN
    return torch.where(places <= 0, 0, torch.where(places >= size - 1, size - 1, places))  # at an edge, eager's gradient is 0


def _reflect(places: Tensor, low: float, span: Any) -> Tensor:
    """Reflect positions at `low` and `low + span` until they are between the two."""
    distance, period = (places - low).abs(), torch.scalar_tensor(2 * span, dtype=places.dtype)
    rest = distance - (distance / period).trunc() * period
    inside = torch.minimum(rest, period - rest) + low
    return torch.where(period == 0, 0, inside)


def _gather(tensor: Tensor, places: Sequence[Tensor], weights: Tensor | None) -> Tensor:
    """Return the elements at the given indices, times their weights. They are 0 outside of the map."""
    sizes = tensor.shape[2:]
    inside = functools.reduce(torch.logical_and, ((place >= 0) & (place <= size - 1) for place, size in zip(places, sizes, strict=True)))
    index: Any = 0
    for place, size in zip(places, sizes, strict=True):
        index = index * size + torch.where(inside, place, 0).to(torch.int64)
    batch, channels = tensor.shape[:2]
    flat = index.flatten(1).unsqueeze(1).expand(batch, channels, index.flatten(1).shape[1])
    found = tensor.flatten(2).gather(2, flat).reshape(batch, channels, *index.shape[1:])
    found = torch.where(inside.unsqueeze(1), found, 0)
    return found if weights is None else found * weights.unsqueeze(1)  # a NaN coordinate gives NaN, as in eager


def _sample_bicubic(tensor: Tensor, at: Sequence[Tensor], padding_mode: int, align_corners: bool) -> Tensor:
    height, width = tensor.shape[2:]
    rows, columns = (_cubic_taps(place) for place in at)

    def row(index: Tensor) -> Tensor:
        vertical = _pad_positions(index, height, padding_mode, align_corners)
        taps = ((_pad_positions(column, width, padding_mode, align_corners), weight) for column, weight in columns)
        return functools.reduce(torch.add, (_gather(tensor, [vertical, horizontal], weight) for horizontal, weight in taps))

    return functools.reduce(torch.add, (row(index) * weight.unsqueeze(1) for index, weight in rows))


def _cubic_taps(place: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return the four indices around a position along a dim, with their weights (Keys' kernel with a = -0.75)."""
    low, a = place.floor(), -0.75
    t = place - low
    return [(low - 1, weigh_far(t + 1, a)), (low, weigh_near(t, a)), (low + 1, weigh_near(1 - t, a)), (low + 2, weigh_far(2 - t, a))]
