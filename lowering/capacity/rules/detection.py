"""Ops of torchvision, known by their names: the package need not be installed."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx.experimental.symbolic_shapes import statically_known_true

from lowering.capacity.rules.selection import select
from lowering.capacity.rules.table import Row
from lowering.capacity.values import Call, Counted, NoRule, Tensor, last, plain
from lowering.ops import iteration
from lowering.ops.images import regions


def _overlaps(boxes: Tensor) -> Tensor:
    """Return the intersection of each pair of boxes (x1, y1, x2, y2) over their union."""
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    corner, other = torch.maximum(boxes[:, None, :2], boxes[None, :, :2]), torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:])
    sides = (other - corner).clamp(min=0)
    shared = sides[..., 0] * sides[..., 1]
    return shared / (areas[:, None] + areas[None, :] - shared)


def _nms(call: Call, boxes: Any, scores: Any, iou_threshold: float) -> Tensor:
    """Keep each box unless one of a higher score that is kept overlaps it by more than the threshold; best first."""
    if not isinstance(iou_threshold, float | int):
        raise NoRule("takes a threshold that data decide")
    if any(isinstance(value, Counted) and value.counted != (0,) for value in (boxes, scores)):
        raise NoRule("data decide the size of a box")
    counted = next((value for value in (scores, boxes) if isinstance(value, Counted)), None)
    data, values = plain(boxes), plain(scores)
    valid = torch.ones_like(values, dtype=torch.bool) if counted is None else torch.arange(values.shape[0]) < counted.dims[0].count
    order = torch.sort(torch.where(valid, values, last(values.dtype, True)), stable=True, descending=True)[1]
    places = torch.arange(values.shape[0])
    removes = (_overlaps(data.index_select(0, order)).to(torch.float64) > iou_threshold) & (places[:, None] < places[None, :])

    has_boxes = statically_known_true(values.shape[0] > 0)

    def step(number: Tensor, kept: Tensor, removes: Tensor) -> tuple[Tensor]:
        row = (removes.index_select(0, number.reshape(1)) if has_boxes else iteration.take(removes, -2, number)).squeeze(0)
        return (kept * (1 - row * iteration.take(kept, -1, number)),)

    (kept,) = iteration.count(values.shape[0], step, (valid.index_select(0, order).to(torch.int32),), (removes.to(torch.int32),))
    chosen, count = select(kept > 0, call.lengths()[0])
    call.decide(count)
    return order.index_select(0, chosen)


def _roi_align(call: Call, image: Tensor | Counted, rois: Tensor | Counted, *args: Any) -> Tensor:
    if isinstance(image, Counted) or (isinstance(rois, Counted) and rois.counted != (0,)):
        raise NoRule("data decide the size of its image or of a region")
    return regions.roi_align(image, rois.fill(0) if isinstance(rois, Counted) else rois, *args)


NAMED = {"torchvision::nms": Row(_nms, lambda node, shape_of: shape_of(node.args[0])[0]), "torchvision::roi_align": Row(_roi_align)}
