"""Decomposition rows of backward ops."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from lowering.ops import gradients, scattering
from lowering.ops.rows import NOT_DEFINED, Row

aten = torch.ops.aten

ROWS: dict[Any, Row] = {
    aten.avg_pool2d_backward.default: Row(partial(gradients.average_pooling, 2), NOT_DEFINED),
    aten.avg_pool3d_backward.default: Row(partial(gradients.average_pooling, 3), NOT_DEFINED),
    aten._adaptive_avg_pool2d_backward.default: Row(partial(gradients.adaptive_average_pooling, 2), NOT_DEFINED),
    aten._adaptive_avg_pool3d_backward.default: Row(partial(gradients.adaptive_average_pooling, 3), NOT_DEFINED),
    aten.adaptive_max_pool2d_backward.default: Row(partial(gradients.adaptive_maximum_pooling, 2), NOT_DEFINED),
    aten.adaptive_max_pool3d_backward.default: Row(partial(gradients.adaptive_maximum_pooling, 3), NOT_DEFINED),
    aten.max_pool3d_with_indices_backward.default: Row(partial(gradients.maximum_pooling, 3), NOT_DEFINED),
    **{getattr(aten, f"replication_pad{rank}d_backward").default: Row(
        partial(gradients.replication, getattr(aten, f"replication_pad{rank}d").default), NOT_DEFINED) for rank in (1, 2, 3)},
    **{getattr(aten, f"{name}_backward").default: Row(partial(gradients.upsampling, getattr(aten, name).default), NOT_DEFINED)
       for name in ("upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d", "upsample_linear1d", "upsample_bilinear2d",
                    "upsample_trilinear3d", "upsample_bicubic2d")},
    **{op.default: Row(gradients.sampling, NOT_DEFINED) for op in (aten.grid_sampler_2d_backward, aten.grid_sampler_3d_backward)},
    aten.masked_scatter_backward.default: Row(scattering.masked_scatter_backward, NOT_DEFINED),
    aten._pdist_backward.default: Row(gradients.distances, NOT_DEFINED),
    aten._weight_norm_interface_backward.default: Row(gradients.weight_norm, NOT_DEFINED),
}
