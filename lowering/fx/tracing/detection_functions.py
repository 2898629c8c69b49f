"""Functions of torchvision that look at the number of boxes, which data decide, composed here without a branch."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

import torch


def _batched_nms(boxes: torch.Tensor, scores: torch.Tensor, idxs: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Return torchvision.ops.batched_nms: boxes of different classes are moved apart, so that they do not overlap.

    torchvision does so for up to 1,000 boxes on the CPU, and suppresses class by class above. Both keep the same boxes, unless rounding the
    moved corners changes an overlap that is next to the threshold.
    """
    largest = torch.cat([boxes.reshape(-1), boxes.new_full([1], -torch.inf)]).amax()  # of no boxes too
    offsets = idxs.to(boxes) * (largest + 1)
    return torch.ops.torchvision.nms(boxes + offsets[:, None], scores, iou_threshold)  # type: ignore[no-any-return]


def _len(value: Any) -> Any:
    """Return `len`; of a tensor, its size, which Python's own makes an int."""
    return value.shape[0] if isinstance(value, torch.Tensor) else len(value)


def list_replacements() -> dict[tuple[Any, str], Callable[..., Any]]:
    """Return the replacements of attributes of torchvision's modules, if the model's code has imported them."""
    owners = (sys.modules.get("torchvision.ops"), sys.modules.get("torchvision.ops.boxes"))
    return {(owner, "batched_nms"): _batched_nms for owner in owners if owner is not None}


def list_additions() -> dict[tuple[Any, str], Callable[..., Any]]:
    """Return the attributes that torchvision's modules get, in front of Python's own functions."""
    poolers = sys.modules.get("torchvision.ops.poolers")
    return {} if poolers is None else {(poolers, "len"): _len}
