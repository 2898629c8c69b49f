"""`torchvision::nms` by its schema, in Python, for models that call it where torchvision is not installed."""

from __future__ import annotations

import importlib
import importlib.util
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


def _shape(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:  # noqa: ARG001 - the op's arguments
    return boxes.new_empty([torch.library.get_ctx().new_dynamic_size()], dtype=torch.int64)


if importlib.util.find_spec("torchvision"):
    importlib.import_module("torchvision")
else:
    LIBRARY = torch.library.Library("torchvision", "FRAGMENT")
    LIBRARY.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    LIBRARY.impl("nms", suppress, "CPU")
    torch.library.register_fake("torchvision::nms", _shape)
