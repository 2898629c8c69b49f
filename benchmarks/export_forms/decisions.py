"""Sorting by sizes, branches and loops on sizes, and numbers made from sizes."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from benchmarks.export_forms.form import add
from lowering.model import Symbol

# Sorting


@add("topk", ("n",))
def top_three_at_most(x: Tensor) -> Any:
    return torch.topk(x, min(3, x.shape[0]))


@add("topk", ("n",), n=Symbol(5, 40))
def top_fifth(x: Tensor) -> Any:
    return torch.topk(x, x.shape[0] // 5)


@add("topk", ("n",))
def top_of_all(x: Tensor) -> Any:
    return torch.topk(x, x.shape[0])


@add("topk", ("n", 3))
def sorted_half(x: Tensor) -> Tensor:
    return x.sort(0).values[: x.shape[0] // 2 + 1]


@add("topk", ("n", 3))
def middle_of_the_sorted(x: Tensor) -> Tensor:
    return x.sort(0).values[(x.shape[0] - 1) // 2]


@add("topk", ("n",))
def kept_fraction(x: Tensor) -> Any:
    return torch.topk(x, max(1, int(x.shape[0] * 0.7)))


# Branches and loops


@add("branch", ("n", 3))
def longer_than_three(x: Tensor) -> Tensor:
    return x * 2 if x.shape[0] > 3 else x


@add("branch", ("n", 3))
def one_row(x: Tensor) -> Tensor:
    return x if x.shape[0] == 1 else x - x.mean(0)


@add("branch", ("n", 3))
def odd_rows(x: Tensor) -> Tensor:
    return x[:-1] if x.shape[0] % 2 else x


@add("branch", ("n", 3), ("m", 3))
def longer_of_two(x: Tensor, y: Tensor) -> Tensor:
    return x * 2 if x.shape[0] > y.shape[0] else y * 3


@add("branch", ("n", 3))
def several_lengths(x: Tensor) -> Tensor:
    if x.shape[0] <= 4:
        return x + 1
    return x + 2 if x.shape[0] <= 12 else x + 3


@add("branch", ("n", 3))
def short_sequences_only(x: Tensor) -> Tensor:
    if x.shape[0] > 16:
        raise ValueError("at most 16 positions")
    return x * 2


@add("branch", ("n", 3))
def loop_over_rows(x: Tensor) -> Tensor:
    total = torch.zeros(3)
    for row in range(x.shape[0]):
        total = total * 0.5 + x[row]
    return total


@add("branch", ("n", 3))
def rows_stacked(x: Tensor) -> Tensor:
    return torch.stack([row * 2 for row in x])


@add("branch", ("n", 3), ("m", 3))
def shorter_of_two(x: Tensor, y: Tensor) -> Tensor:
    common = min(x.shape[0], y.shape[0])
    return x[:common] + y[:common]


@add("branch", ("n", "n", 4))
def squeezed(x: Tensor) -> Tensor:
    return x.squeeze(0)


# Numbers made from sizes


@add("number", ("n", 3))
def mean_by_hand(x: Tensor) -> Tensor:
    return x.sum(0) / x.shape[0]


@add("number", ("n", 3))
def scaled_by_the_root(x: Tensor) -> Tensor:
    return x / math.sqrt(x.shape[0])


@add("number", ("n", 4))
def positions(x: Tensor) -> Tensor:
    angles = torch.arange(x.shape[0])[:, None] * 10000 ** -(torch.arange(0, 4, 2) / 4)
    return x + torch.cat([angles.sin(), angles.cos()], 1)


@add("number", ("n", 3))
def relative_positions(x: Tensor) -> Tensor:
    places = torch.arange(x.shape[0])
    table = torch.linspace(0, 1, 2 * 24 - 1)
    return table[places[:, None] - places[None] + 23] @ x


@add("number", ("n", 3))
def spread(x: Tensor) -> Tensor:
    return x.std(0) + torch.linspace(0, 1, x.shape[0]).sum()


@add("number", ("n", 3), n=Symbol(2, 24))
def levels_by_logarithm(x: Tensor) -> Tensor:
    return x * math.ceil(math.log2(x.shape[0]))


@add("number", ("n", 3))
def rounded_part(x: Tensor) -> Tensor:
    return x[: round(x.shape[0] / 3) + 1] * 2
