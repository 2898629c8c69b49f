"""`torchvision::nms` and `roi_align` by their schemas, in Python, for models that call them where torchvision is not installed."""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import math
from typing import TypeAlias

import torch

Tensor: TypeAlias = torch.Tensor


def suppress(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Return the numbers of boxes (boxes, 4) that no box of a higher score overlaps by more than the threshold, best first."""
    left: list[int] = scores.sort(descending=True, stable=True)[1].tolist()
    areas, kept = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]), []
    while left:
        best, *left = left
        kept.append(best)
        corner, other = torch.maximum(boxes[best, :2], boxes[left, :2]), torch.minimum(boxes[best, 2:], boxes[left, 2:])
        sides = (other - corner).clamp(min=0)
        shared = sides[:, 0] * sides[:, 1]
        overlaps = shared / (areas[best] + areas[left] - shared)
        left = [number for number, overlap in zip(left, overlaps.tolist(), strict=True) if not overlap > iou_threshold]
    return torch.tensor(kept, dtype=torch.int64)


def align(image: Tensor, rois: Tensor, spatial_scale: float, pooled_height: int, pooled_width: int, sampling_ratio: int,
          aligned: bool) -> Tensor:
    """Return the means of samples of an image (batch, channels, height, width) in bins of regions (regions, 5), sample by sample."""
    made = image.new_zeros([rois.shape[0], image.shape[1], pooled_height, pooled_width])
    offset = 0.5 if aligned else 0.0
    for region, (number, *corners) in enumerate(rois.tolist()):
        left, top, right, bottom = (corner * spatial_scale - offset for corner in corners)
        width, height = (side if aligned else max(side, 1.0) for side in (right - left, bottom - top))
        steps = height / pooled_height, width / pooled_width
        rows, columns = (sampling_ratio if sampling_ratio > 0 else math.ceil(step) for step in steps)
        for row, column in itertools.product(range(pooled_height), range(pooled_width)):
            places = [(top + (row + (down + 0.5) / rows) * steps[0], left + (column + (across + 0.5) / columns) * steps[1])
                      for down, across in itertools.product(range(rows), range(columns))]
            samples = [_sample(image[int(number)], *place) for place in places]
            made[region, :, row, column] = sum(samples, image.new_zeros(image.shape[1])) / max(rows * columns, 1)
    return made


def _sample(image: Tensor, row: float, column: float) -> Tensor:
    """Return the channels of an image (channels, height, width) between four pixels; 0 where that is more than a pixel outside."""
    height, width = image.shape[1:]
    if not (-1 <= row <= height and -1 <= column <= width):
        return image.new_zeros(image.shape[0])
    row, column = min(max(row, 0.0), height - 1), min(max(column, 0.0), width - 1)
    top, left = int(row), int(column)
    bottom, right, down, across = min(top + 1, height - 1), min(left + 1, width - 1), row - top, column - left
    upper = image[:, top, left] * (1 - across) + image[:, top, right] * across
    return upper * (1 - down) + (image[:, bottom, left] * (1 - across) + image[:, bottom, right] * across) * down


def _make_regions(image: Tensor, rois: Tensor, spatial_scale: float, pooled_height: int, pooled_width: int,  # noqa: ARG001 - the op's
                   sampling_ratio: int, aligned: bool) -> Tensor:  # noqa: ARG001 - the op's
    return image.new_empty([rois.shape[0], image.shape[1], pooled_height, pooled_width])


def _make_places(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:  # noqa: ARG001 - the op's arguments
    return boxes.new_empty([torch.library.get_ctx().new_dynamic_size()], dtype=torch.int64)


if importlib.util.find_spec("torchvision"):
    importlib.import_module("torchvision")
else:
    LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
    LIBRARY.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    LIBRARY.impl("nms", suppress, "CPU")
    torch.library.register_fake("torchvision::nms", _make_places)
    LIBRARY.define("roi_align(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
                   "int sampling_ratio, bool aligned) -> Tensor")
    LIBRARY.impl("roi_align", align, "CPU")
    torch.library.register_fake("torchvision::roi_align", _make_regions)
