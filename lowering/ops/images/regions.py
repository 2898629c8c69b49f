"""Regions of images: torchvision::roi_align as plain ops, known by its name, since torchvision need not be installed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch

from lowering.ops import iteration

Tensor: TypeAlias = torch.Tensor


def roi_align(image: Tensor, rois: Tensor, spatial_scale: float, pooled_height: int, pooled_width: int, sampling_ratio: int,
              aligned: bool) -> Tensor:
    """Return the means of samples of an image (batch, channels, height, width) in the bins of each region: (regions, channels, bins).

    rois: (regions, 5), the number of the image and two corners, x first. A sample is interpolated between four pixels, and 0 if it is more
    than a pixel outside. sampling_ratio: samples of a bin along each side; if it is not positive, as many as pixels, which depends on data.
    """
    batch, channels, height, width = image.shape
    offset = 0.5 if aligned else 0.0
    left, top, right, bottom = ((rois[:, place] * spatial_scale - offset).unsqueeze(1) for place in range(1, 5))
    sides = [bottom - top, right - left]
    if not aligned:
        sides = [side.clamp(min=1) for side in sides]
    steps = [side / bins for side, bins in zip(sides, (pooled_height, pooled_width), strict=True)]
    starts = [start + torch.arange(bins, dtype=step.dtype) * step
              for start, step, bins in zip((top, left), steps, (pooled_height, pooled_width), strict=True)]
    pixels = image.permute(0, 2, 3, 1).reshape(batch * height * width, channels)
    first = (rois[:, 0].to(torch.int64) * (height * width)).reshape(-1, 1, 1)

    def sample(at: Sequence[Tensor], pixels: Tensor, first: Tensor) -> Tensor:
        return _interpolate(pixels, first, _between(at[0], height), _between(at[1], width), width)

    total = torch.zeros([rois.shape[0], pooled_height, pooled_width, channels], dtype=image.dtype)
    if sampling_ratio > 0:
        for row in range(sampling_ratio):
            for column in range(sampling_ratio):
                at = [start + (number + 0.5) * step / sampling_ratio
                      for start, number, step in zip(starts, (row, column), steps, strict=True)]
                total = total + sample(at, pixels, first)
        return (total / sampling_ratio**2).permute(0, 3, 1, 2)
    numbers = [step.ceil() for step in steps]
    most = [torch.cat([number.reshape(-1), number.new_zeros(1)]).amax().to(torch.int64) for number in numbers]

    def goes_on(number: Tensor, total: Tensor, rows: Tensor, columns: Tensor, *rest: Tensor) -> Tensor:
        return number < rows * columns

    def step(number: Tensor, total: Tensor, rows: Tensor, columns: Tensor, pixels: Tensor, first: Tensor,
             *bins: Tensor) -> tuple[Tensor, ...]:
        starts, steps, numbers = bins[:2], bins[2:4], bins[4:]
        at = torch.div(number, columns, rounding_mode="floor"), number % columns
        places = [start + (place + 0.5) * size / wanted.clamp(min=1)
                  for start, place, size, wanted in zip(starts, at, steps, numbers, strict=True)]
        is_sampled = (at[0] < numbers[0]) & (at[1] < numbers[1])
        return number + 1, total + torch.where(is_sampled.reshape(-1, 1, 1, 1), sample(places, pixels, first), 0)

    state = torch.zeros((), dtype=torch.int64), total
    _, total = iteration.iterate(goes_on, step, state, (*most, pixels, first, *starts, *steps, *numbers))
    return (total / (numbers[0] * numbers[1]).clamp(min=1).reshape(-1, 1, 1, 1)).permute(0, 3, 1, 2)


def _between(places: Tensor, size: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the pixels before and after places along a side, the part of the second, and whether places are inside."""
    last = torch.scalar_tensor(size, dtype=torch.int64) - 1
    is_inside = (places >= -1) & (places <= (last + 1).to(places.dtype))
    places = places.clamp(min=0)
    low = torch.minimum(places.to(torch.int64).clamp(min=0), last)
    return low, torch.minimum(low + 1, last), torch.where(low >= last, 0, places - low), is_inside


def _interpolate(pixels: Tensor, first: Tensor, rows: tuple[Tensor, ...], columns: tuple[Tensor, ...], width: Any) -> Tensor:
    """Return pixels (regions, rows, columns, channels) of images that begin at the pixel `first`."""
    (top, bottom, down, rows_inside), (left, right, across, columns_inside) = rows, columns
    total: Any = 0
    for row, vertical in ((top, 1 - down), (bottom, down)):
        for column, horizontal in ((left, 1 - across), (right, across)):
            places = first + row.unsqueeze(2) * width + column.unsqueeze(1)
            found = pixels.index_select(0, places.reshape(-1)).reshape([*places.shape, pixels.shape[1]])
            total = total + found * (vertical.unsqueeze(2) * horizontal.unsqueeze(1)).unsqueeze(3)
    return torch.where((rows_inside.unsqueeze(2) & columns_inside.unsqueeze(1)).unsqueeze(3), total, 0)  # type: ignore[no-any-return]


ROWS: dict[str, Callable[..., Tensor]] = {"torchvision::roi_align": roi_align}
