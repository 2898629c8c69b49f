"""Pools, resizing and convolutions of images."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.export_forms.form import PICTURE, add, image
from lowering.model import Symbol

# Pools


@add("pool", PICTURE, **image())
def max_pool_ceil(x: Tensor) -> Tensor:
    return functional.max_pool2d(x, 3, 2, 1, ceil_mode=True)


@add("pool", PICTURE, **image())
def max_pool_ceil_unpadded(x: Tensor) -> Tensor:
    return functional.max_pool2d(x, 2, 2, ceil_mode=True)


@add("pool", PICTURE, **image())
def avg_pool_ceil(x: Tensor) -> Tensor:
    return functional.avg_pool2d(x, 3, 2, 1, ceil_mode=True)


@add("pool", PICTURE, **image())
def avg_pool_ceil_uncounted(x: Tensor) -> Tensor:
    return functional.avg_pool2d(x, 2, 2, ceil_mode=True, count_include_pad=False)


@add("pool", ("n", 3, "m"), m=Symbol(1, 40))
def max_pool_of_any_length(x: Tensor) -> Tensor:
    return functional.max_pool1d(x, 3, 1, 1)


@add("pool", PICTURE, **image())
def adaptive_to_two(x: Tensor) -> Tensor:
    return functional.adaptive_avg_pool2d(x, 2)


@add("pool", PICTURE, **image(16))
def pyramid_of_pools(x: Tensor) -> Tensor:
    return torch.cat([functional.adaptive_max_pool2d(x, size).flatten(1) for size in (1, 2)], 1)


@add("pool", PICTURE, **image())
def pools_in_a_row(x: Tensor) -> Tensor:
    for _ in range(3):
        x = functional.max_pool2d(x, 3, 2, 1, ceil_mode=True)
    return x


# Resizing


@add("resize", PICTURE, **image())
def halved(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=0.5, mode="bilinear")


@add("resize", PICTURE, **image())
def doubled(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="nearest")


@add("resize", PICTURE, **image())
def scaled_by_one_and_a_half(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=1.5, mode="bilinear", align_corners=False)


@add("resize", PICTURE, ("n", 4, "a", "b"), a=Symbol(4, 24), b=Symbol(4, 24), **image())
def resized_as_another(x: Tensor, y: Tensor) -> Tensor:
    return functional.interpolate(x, size=y.shape[2:], mode="bilinear", align_corners=True) + y


@add("resize", PICTURE, **image())
def down_and_up(x: Tensor) -> Tensor:
    small = functional.avg_pool2d(x, 2, 2, ceil_mode=True)
    return x + functional.interpolate(small, size=x.shape[2:], mode="nearest")


@add("resize", PICTURE, **image(16))
def skip_cropped(x: Tensor) -> Tensor:
    small = functional.interpolate(functional.max_pool2d(x, 2), scale_factor=2)
    return torch.cat([x[:, :, : small.shape[2], : small.shape[3]], small], 1)


@add("resize", PICTURE, **image())
def skip_padded(x: Tensor) -> Tensor:
    small = functional.interpolate(functional.max_pool2d(x, 2), scale_factor=2)
    wide, high = x.shape[3] - small.shape[3], x.shape[2] - small.shape[2]
    return torch.cat([x, functional.pad(small, (wide // 2, wide - wide // 2, high // 2, high - high // 2))], 1)


# Convolutions

WEIGHT = torch.linspace(-1, 1, 4 * 4 * 9).view(4, 4, 3, 3)


@add("conv", PICTURE, **image())
def strides_in_a_row(x: Tensor) -> Tensor:
    for _ in range(3):
        x = functional.conv2d(x, WEIGHT, None, 2, 1)
    return x


@add("conv", PICTURE, **image())
def unpadded(x: Tensor) -> Tensor:
    return functional.conv2d(functional.conv2d(x, WEIGHT), WEIGHT)


@add("conv", PICTURE, **image())
def transposed_to_the_same_size(x: Tensor) -> Tensor:
    small = functional.conv2d(x, WEIGHT, None, 2, 1)
    large = functional.conv_transpose2d(small, WEIGHT, None, 2, 1, output_padding=1)
    return large[:, :, : x.shape[2], : x.shape[3]] + x


@add("conv", PICTURE, h=Symbol(1, 40), w=Symbol(1, 40))
def dilated_from_one_pixel(x: Tensor) -> Tensor:
    return functional.conv2d(x, WEIGHT, None, 1, 2, 2)
