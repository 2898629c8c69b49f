"""Slices, windows and padding."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.export_forms.form import PICTURE, add, image
from lowering.model import Symbol

# Slices


@add("slice", ("n", 3))
def first_five(x: Tensor) -> Tensor:
    return x[:5] * 2


@add("slice", ("n", 3))
def last_five(x: Tensor) -> Tensor:
    return x[-5:] * 2


@add("slice", ("n", 3))
def every_second(x: Tensor) -> Tensor:
    return x[::2] + 1


@add("slice", ("n", 3))
def every_third_from_one(x: Tensor) -> Tensor:
    return x[1::3] + 1


@add("slice", ("n", 3))
def shifted_by_one(x: Tensor) -> Tensor:
    return x[1:] - x[:-1]


@add("slice", ("n", 3), n=Symbol(2, 24))
def middle(x: Tensor) -> Tensor:
    return x[x.shape[0] // 2]


@add("slice", ("n", 3))
def first_half(x: Tensor) -> Tensor:
    return x[: x.shape[0] // 2] * 2


@add("slice", ("n", 3))
def halves_swapped(x: Tensor) -> Tensor:
    half = x.shape[0] // 2
    return torch.cat([x[half:], x[:half]])


@add("slice", ("n", 3))
def rounded_up_half(x: Tensor) -> Tensor:
    return x[: (x.shape[0] + 1) // 2] + x[: x.shape[0] - x.shape[0] // 2]


@add("slice", ("n", 3))
def last_row(x: Tensor) -> Tensor:
    return x[-1]


@add("slice", ("n", 3))
def all_but_two(x: Tensor) -> Tensor:
    return x[1:-1] + 1


@add("slice", ("n", 3))
def rolled(x: Tensor) -> Tensor:
    return x.roll(2, 0)


@add("slice", ("n", 3), n=Symbol(4, 24))
def chunks(x: Tensor) -> Any:
    return x.chunk(2)


@add("slice", (3, "n"), n=Symbol(8, 24))
def chunks_of_features(x: Tensor) -> Tensor:
    first, second = x.chunk(2, 1)
    return first.sum(1) + second.sum(1)


@add("slice", ("n", 3))
def differences(x: Tensor) -> Tensor:
    return torch.diff(x, dim=0)


@add("slice", ("n", "m"))
def upper_triangle(x: Tensor) -> Tensor:
    return x.triu(1)


@add("slice", ("n", "n"))
def diagonal(x: Tensor) -> Tensor:
    return x.diagonal() * 2


@add("slice", ("n", 3))
def narrowed(x: Tensor) -> Tensor:
    return x.narrow(0, x.shape[0] // 3, x.shape[0] - x.shape[0] // 3)


@add("slice", ("n", 3), ("m", 3), n=Symbol(24, 48))
def as_long_as_another(x: Tensor, y: Tensor) -> Tensor:
    return x[: y.shape[0]] + y


@add("slice", ("n", 3))
def flipped(x: Tensor) -> Tensor:
    return x.flip(0) - x


# Windows and padding


@add("window", ("n",))
def padded_to_windows(x: Tensor) -> Tensor:
    return functional.pad(x, (0, -x.shape[0] % 8)).view(-1, 8)


@add("window", ("n",))
def padded_by_a_branch(x: Tensor) -> Tensor:
    rest = x.shape[0] % 8
    return (functional.pad(x, (0, 8 - rest)) if rest else x).view(-1, 8)


@add("window", PICTURE, **image())
def windows_of_an_image(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    x = functional.pad(x, (0, -w % 7, 0, -h % 7))
    x = x.view(n, c, x.shape[2] // 7, 7, x.shape[3] // 7, 7).permute(0, 2, 4, 3, 5, 1).reshape(-1, 49, c)
    return x - x.mean(1, keepdim=True)


@add("window", PICTURE, **image())
def shifted_windows(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    x = functional.pad(x, (0, -w % 4, 0, -h % 4)).roll((-2, -2), (2, 3))
    x = x.view(n, c, x.shape[2] // 4, 4, x.shape[3] // 4, 4).amax((3, 5))
    return x.roll((1, 1), (2, 3))


@add("window", PICTURE, **image())
def windows_cropped_again(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    wide = functional.pad(x, (0, -w % 5, 0, -h % 5))
    y = wide.view(n, c, wide.shape[2] // 5, 5, wide.shape[3] // 5, 5).transpose(3, 4).transpose(3, 4)
    return y.reshape(wide.shape)[:, :, :h, :w] + x


@add("window", ("n", 4), n=Symbol(1, 40))
def sliding_windows(x: Tensor) -> Tensor:
    return functional.pad(x, (0, 0, 2, 2)).unfold(0, 5, 1).mean(-1)


@add("window", (1, 2, "n"), n=Symbol(8, 40))
def overlapping_frames(x: Tensor) -> Tensor:
    return x.unfold(2, 4, 2).sum(-1)


@add("window", PICTURE, **image())
def padded_as_tensorflow(x: Tensor) -> Tensor:
    high, wide = (max((math.ceil(size / 2) - 1) * 2 + 3 - size, 0) for size in x.shape[2:])
    return functional.avg_pool2d(functional.pad(x, (wide // 2, wide - wide // 2, high // 2, high - high // 2)), 3, 2)


@add("window", PICTURE, **image())
def padded_to_even(x: Tensor) -> Tensor:
    x = functional.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
    return torch.cat([x[:, :, 0::2, 0::2], x[:, :, 1::2, 0::2], x[:, :, 0::2, 1::2], x[:, :, 1::2, 1::2]], 1)


@add("window", ("n", 3), n=Symbol(3, 24))
def reflected(x: Tensor) -> Tensor:
    return functional.pad(x.T[None], (2, 2), mode="reflect")[0]


@add("window", ("n", "m"), n=Symbol(16, 32))
def padded_to_a_fixed_length(x: Tensor) -> Tensor:
    return functional.pad(x, (0, 32 - x.shape[1]))
