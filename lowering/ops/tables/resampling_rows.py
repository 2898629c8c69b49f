"""Decomposition rows of pooling and interpolation."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch.fx import Node

from lowering.ops import activations
from lowering.ops.images import pooling, resizing
from lowering.ops.node_forms import counts_unusually, has_ceil_mode
from lowering.ops.reductions import is_reduced
from lowering.ops.rows import NO_DYNAMIC, NOT_DEFINED, Decomposition, Row

aten = torch.ops.aten

_CEIL = "ceil_mode gives wrong numbers"
_MEAN = f"{_CEIL}; halves are rounded after each step"


def counts_unusually_or_halves(node: Node) -> bool:
    """Return whether an average pooling has a form that torch-mlir does not lower, or is of halves."""
    return counts_unusually(node) or is_reduced(node)


def _average(rank: int) -> Decomposition:
    """Return the definition of an average pooling, of halves in float32. A usual form stays whole."""
    op = getattr(aten, f"avg_pool{rank}d").default

    def average(tensor: torch.Tensor, size: Any, stride: Any = (), padding: Any = (0,), ceil_mode: bool = False,
                count_include_pad: bool = True, divisor_override: int | None = None) -> torch.Tensor:  # fmt: skip
        counting = () if rank == 1 else (divisor_override,)
        if ceil_mode or not count_include_pad or divisor_override is not None:
            return pooling.average(rank, tensor, size, stride, padding, ceil_mode, count_include_pad, divisor_override)
        return op(tensor, size, stride, padding, ceil_mode, count_include_pad, *counting)  # type: ignore[no-any-return]

    return activations.widen(average)


_NEAREST = {"upsample_nearest": resizing.nearest, "_upsample_nearest_exact": resizing.nearest_exact}
_ANTIALIASED = {aten._upsample_bilinear2d_aa: resizing.bilinear_antialiased, aten._upsample_bicubic2d_aa: resizing.bicubic_antialiased}
_INTERPOLATED = {aten.upsample_linear1d: resizing.linear, aten.upsample_bilinear2d: resizing.linear,
                 aten.upsample_trilinear3d: resizing.linear, aten.upsample_bicubic2d: resizing.bicubic}  # fmt: skip

ROWS: dict[Any, Row] = {
    **{getattr(aten, f"{name}{rank}d").default: Row(sized, "needs constant sizes, and takes other indices than eager")
       for name, sized in _NEAREST.items() for rank in (1, 2, 3)},
    **{getattr(aten, f"{name}{rank}d").vec: Row(resizing.make_vec_form(sized), "needs constant sizes, and takes other indices than eager")
       for name, sized in _NEAREST.items() for rank in (1, 2, 3)},
    **{op.default: Row(sized, NOT_DEFINED) for op, sized in _ANTIALIASED.items()},
    **{op.vec: Row(resizing.make_vec_form(sized), NOT_DEFINED) for op, sized in _ANTIALIASED.items()},
    **{op.default: Row(sized, "NaN where a dim of one element keeps its corners") for op, sized in _INTERPOLATED.items()},
    **{op.vec: Row(resizing.make_vec_form(sized), "NaN where a dim of one element keeps its corners")
       for op, sized in _INTERPOLATED.items()},
    aten.adaptive_avg_pool1d.default: Row(pooling.adaptive_average, "needs a constant kernel, else wrong shapes"),
    aten.adaptive_avg_pool2d.default: Row(pooling.adaptive_average, "needs a constant kernel"),
    aten.adaptive_avg_pool3d.default: Row(pooling.adaptive_average, NO_DYNAMIC),
    aten._adaptive_avg_pool2d.default: Row(pooling.adaptive_average, "needs a constant kernel"),
    aten._adaptive_avg_pool3d.default: Row(pooling.adaptive_average, NO_DYNAMIC),
    aten.fractional_max_pool2d.default: Row(pooling.fractional_maximum, NOT_DEFINED),
    aten.fractional_max_pool3d.default: Row(pooling.fractional_maximum, NOT_DEFINED),
    aten.adaptive_max_pool1d.default: Row(pooling.adaptive_maximum, NO_DYNAMIC),
    aten.adaptive_max_pool2d.default: Row(pooling.adaptive_maximum, NO_DYNAMIC),
    aten.adaptive_max_pool3d.default: Row(pooling.adaptive_maximum, NO_DYNAMIC),
    aten.max_pool1d.default: Row(partial(pooling.maximum_values, 1), _CEIL, has_ceil_mode),
    aten.max_pool2d.default: Row(partial(pooling.maximum_values, 2), _CEIL, has_ceil_mode),
    aten.max_pool3d.default: Row(partial(pooling.maximum_values, 3), NO_DYNAMIC),
    aten.max_pool1d_with_indices.default: Row(partial(pooling.maximum, 1), NO_DYNAMIC),
    aten.max_pool2d_with_indices.default: Row(partial(pooling.maximum, 2), NO_DYNAMIC),
    aten.max_pool3d_with_indices.default: Row(partial(pooling.maximum, 3), NO_DYNAMIC),
    aten.avg_pool1d.default: Row(_average(1), _MEAN, counts_unusually_or_halves),
    aten.avg_pool2d.default: Row(_average(2), _MEAN, counts_unusually_or_halves),
    aten.avg_pool3d.default: Row(_average(3), _MEAN, counts_unusually_or_halves),
}
