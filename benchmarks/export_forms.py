"""Small models by kind of size arithmetic, for benchmarks.export_policy: each is a function of tensors with dynamic dims."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from lowering.model import Input, Model, Symbol

Shapes = dict[str, tuple[int | str | None, ...]]


@dataclass(frozen=True)
class Form:
    """A function of tensors. kind: the group that it is counted in. shapes: of its arguments, by name; symbols: their ranges."""

    name: str
    kind: str
    code: Callable[..., Any]
    shapes: Shapes
    symbols: dict[str, Symbol]

    @property
    def model(self) -> Model:
        inputs = {name: Input("float32", shape) for name, shape in self.shapes.items()}
        return Model(self.name, {"_target_": f"{__name__}.{Module.__name__}", "name": self.name}, inputs, self.symbols)


class Module(nn.Module):
    """Calls the function of a form."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.code = FORMS[name].code

    def forward(self, x: Tensor, y: Tensor | None = None) -> Any:
        return self.code(x) if y is None else self.code(x, y)


FORMS: dict[str, Form] = {}


def _add(
    kind: str, shape: tuple[int | str | None, ...], second: tuple[int | str | None, ...] | None = None, **ranges: Symbol
) -> Callable[[Any], Any]:
    """Register a function under its name. A symbol without a range has sizes from 1 to 24."""

    def register(code: Any) -> Any:
        name = code.__name__.strip("_")
        assert name not in FORMS, name
        shapes: Shapes = {"x": shape, **({"y": second} if second is not None else {})}
        used = sorted({dim for dims in shapes.values() for dim in dims if isinstance(dim, str) and dim.isidentifier()} | ranges.keys())
        FORMS[name] = Form(name, kind, code, shapes, {symbol: ranges.get(symbol, Symbol(1, 24)) for symbol in used})
        return code

    return register


def _image(least: int = 8) -> dict[str, Symbol]:
    return {"h": Symbol(least, 40), "w": Symbol(least, 40)}


PICTURE = ("n", 4, "h", "w")


# Pools


@_add("pool", PICTURE, **_image())
def max_pool_ceil(x: Tensor) -> Tensor:
    return functional.max_pool2d(x, 3, 2, 1, ceil_mode=True)


@_add("pool", PICTURE, **_image())
def max_pool_ceil_unpadded(x: Tensor) -> Tensor:
    return functional.max_pool2d(x, 2, 2, ceil_mode=True)


@_add("pool", PICTURE, **_image())
def avg_pool_ceil(x: Tensor) -> Tensor:
    return functional.avg_pool2d(x, 3, 2, 1, ceil_mode=True)


@_add("pool", PICTURE, **_image())
def avg_pool_ceil_uncounted(x: Tensor) -> Tensor:
    return functional.avg_pool2d(x, 2, 2, ceil_mode=True, count_include_pad=False)


@_add("pool", ("n", 3, "m"), m=Symbol(1, 40))
def max_pool_of_any_length(x: Tensor) -> Tensor:
    return functional.max_pool1d(x, 3, 1, 1)


@_add("pool", PICTURE, **_image())
def adaptive_to_two(x: Tensor) -> Tensor:
    return functional.adaptive_avg_pool2d(x, 2)


@_add("pool", PICTURE, **_image(16))
def pyramid_of_pools(x: Tensor) -> Tensor:
    return torch.cat([functional.adaptive_max_pool2d(x, size).flatten(1) for size in (1, 2)], 1)


@_add("pool", PICTURE, **_image())
def pools_in_a_row(x: Tensor) -> Tensor:
    for _ in range(3):
        x = functional.max_pool2d(x, 3, 2, 1, ceil_mode=True)
    return x


# Slices


@_add("slice", ("n", 3))
def first_five(x: Tensor) -> Tensor:
    return x[:5] * 2


@_add("slice", ("n", 3))
def last_five(x: Tensor) -> Tensor:
    return x[-5:] * 2


@_add("slice", ("n", 3))
def every_second(x: Tensor) -> Tensor:
    return x[::2] + 1


@_add("slice", ("n", 3))
def every_third_from_one(x: Tensor) -> Tensor:
    return x[1::3] + 1


@_add("slice", ("n", 3))
def shifted_by_one(x: Tensor) -> Tensor:
    return x[1:] - x[:-1]


@_add("slice", ("n", 3), n=Symbol(2, 24))
def middle(x: Tensor) -> Tensor:
    return x[x.shape[0] // 2]


@_add("slice", ("n", 3))
def first_half(x: Tensor) -> Tensor:
    return x[: x.shape[0] // 2] * 2


@_add("slice", ("n", 3))
def halves_swapped(x: Tensor) -> Tensor:
    half = x.shape[0] // 2
    return torch.cat([x[half:], x[:half]])


@_add("slice", ("n", 3))
def rounded_up_half(x: Tensor) -> Tensor:
    return x[: (x.shape[0] + 1) // 2] + x[: x.shape[0] - x.shape[0] // 2]


@_add("slice", ("n", 3))
def last_row(x: Tensor) -> Tensor:
    return x[-1]


@_add("slice", ("n", 3))
def all_but_two(x: Tensor) -> Tensor:
    return x[1:-1] + 1


@_add("slice", ("n", 3))
def rolled(x: Tensor) -> Tensor:
    return x.roll(2, 0)


@_add("slice", ("n", 3), n=Symbol(4, 24))
def chunks(x: Tensor) -> Any:
    return x.chunk(2)


@_add("slice", (3, "n"), n=Symbol(8, 24))
def chunks_of_features(x: Tensor) -> Tensor:
    first, second = x.chunk(2, 1)
    return first.sum(1) + second.sum(1)


@_add("slice", ("n", 3))
def differences(x: Tensor) -> Tensor:
    return torch.diff(x, dim=0)


@_add("slice", ("n", "m"))
def upper_triangle(x: Tensor) -> Tensor:
    return x.triu(1)


@_add("slice", ("n", "n"))
def diagonal(x: Tensor) -> Tensor:
    return x.diagonal() * 2


@_add("slice", ("n", 3))
def narrowed(x: Tensor) -> Tensor:
    return x.narrow(0, x.shape[0] // 3, x.shape[0] - x.shape[0] // 3)


@_add("slice", ("n", 3), ("m", 3), n=Symbol(24, 48))
def as_long_as_another(x: Tensor, y: Tensor) -> Tensor:
    return x[: y.shape[0]] + y


@_add("slice", ("n", 3))
def flipped(x: Tensor) -> Tensor:
    return x.flip(0) - x


# Windows and padding


@_add("window", ("n",))
def padded_to_windows(x: Tensor) -> Tensor:
    return functional.pad(x, (0, -x.shape[0] % 8)).view(-1, 8)


@_add("window", ("n",))
def padded_by_a_branch(x: Tensor) -> Tensor:
    rest = x.shape[0] % 8
    return (functional.pad(x, (0, 8 - rest)) if rest else x).view(-1, 8)


@_add("window", PICTURE, **_image())
def windows_of_an_image(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    x = functional.pad(x, (0, -w % 7, 0, -h % 7))
    x = x.view(n, c, x.shape[2] // 7, 7, x.shape[3] // 7, 7).permute(0, 2, 4, 3, 5, 1).reshape(-1, 49, c)
    return x - x.mean(1, keepdim=True)


@_add("window", PICTURE, **_image())
def shifted_windows(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    x = functional.pad(x, (0, -w % 4, 0, -h % 4)).roll((-2, -2), (2, 3))
    x = x.view(n, c, x.shape[2] // 4, 4, x.shape[3] // 4, 4).amax((3, 5))
    return x.roll((1, 1), (2, 3))


@_add("window", PICTURE, **_image())
def windows_cropped_again(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    wide = functional.pad(x, (0, -w % 5, 0, -h % 5))
    y = wide.view(n, c, wide.shape[2] // 5, 5, wide.shape[3] // 5, 5).transpose(3, 4).transpose(3, 4)
    return y.reshape(wide.shape)[:, :, :h, :w] + x


@_add("window", ("n", 4), n=Symbol(1, 40))
def sliding_windows(x: Tensor) -> Tensor:
    return functional.pad(x, (0, 0, 2, 2)).unfold(0, 5, 1).mean(-1)


@_add("window", (1, 2, "n"), n=Symbol(8, 40))
def overlapping_frames(x: Tensor) -> Tensor:
    return x.unfold(2, 4, 2).sum(-1)


@_add("window", PICTURE, **_image())
def padded_as_tensorflow(x: Tensor) -> Tensor:
    high, wide = (max((math.ceil(size / 2) - 1) * 2 + 3 - size, 0) for size in x.shape[2:])
    return functional.avg_pool2d(functional.pad(x, (wide // 2, wide - wide // 2, high // 2, high - high // 2)), 3, 2)


@_add("window", PICTURE, **_image())
def padded_to_even(x: Tensor) -> Tensor:
    x = functional.pad(x, (0, x.shape[3] % 2, 0, x.shape[2] % 2))
    return torch.cat([x[:, :, 0::2, 0::2], x[:, :, 1::2, 0::2], x[:, :, 0::2, 1::2], x[:, :, 1::2, 1::2]], 1)


@_add("window", ("n", 3), n=Symbol(3, 24))
def reflected(x: Tensor) -> Tensor:
    return functional.pad(x.T[None], (2, 2), mode="reflect")[0]


@_add("window", ("n", "m"), n=Symbol(16, 32))
def padded_to_a_fixed_length(x: Tensor) -> Tensor:
    return functional.pad(x, (0, 32 - x.shape[1]))


# Shapes


@_add("reshape", ("n", "m", 3))
def flattened_and_back(x: Tensor) -> Tensor:
    return (x.flatten(0, 1) * 2).unflatten(0, (x.shape[0], x.shape[1]))


@_add("reshape", ("n", "m", 3))
def flattened_and_guessed(x: Tensor) -> Tensor:
    return (x.flatten(0, 1) * 2).unflatten(0, (-1, x.shape[1]))


@_add("reshape", ("n", 3), n=Symbol(1, 24, example=6))
def pairs_of_rows(x: Tensor) -> Tensor:
    return x.reshape(-1, 2, 3).sum(1)


@_add("reshape", ("n", 3), n=Symbol(2, 24, multiple_of=2))
def pairs_of_even_rows(x: Tensor) -> Tensor:
    return x.reshape(-1, 2, 3).sum(1)


@_add("reshape", ("n", 3), n=Symbol(4, 24, multiple_of=4))
def rows_in_four_groups(x: Tensor) -> Tensor:
    return x.reshape(4, x.shape[0] // 4, 3).transpose(0, 1).reshape(x.shape[0], 3)


@_add("reshape", PICTURE, **_image())
def channels_shuffled(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


@_add("reshape", PICTURE, **_image())
def pixels_shuffled(x: Tensor) -> Tensor:
    return functional.pixel_shuffle(x, 2)


@_add("reshape", PICTURE, h=Symbol(2, 24, multiple_of=2), w=Symbol(2, 24, multiple_of=2))
def pixels_unshuffled(x: Tensor) -> Tensor:
    return functional.pixel_unshuffle(x, 2)


@_add("reshape", ("n", "m", 8))
def heads(x: Tensor) -> Tensor:
    n, m, _ = x.shape
    query = x.view(n, m, 2, 4).transpose(1, 2)
    return functional.scaled_dot_product_attention(query, query, query).transpose(1, 2).reshape(n, m, 8)


@_add("reshape", ("n", 3), ("m", 3))
def all_pairs(x: Tensor, y: Tensor) -> Tensor:
    return (x[:, None] - y[None]).abs().sum(-1)


@_add("reshape", ("n", 3))
def repeated(x: Tensor) -> Tensor:
    return x.repeat(2, x.shape[0]).reshape(-1, 3)


@_add("reshape", ("n", 3))
def interleaved(x: Tensor) -> Tensor:
    return x.repeat_interleave(3, 0)


@_add("reshape", PICTURE, **_image())
def tokens_and_back(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return (x.flatten(2).transpose(1, 2) * 2).transpose(1, 2).reshape(n, c, h, w)


@_add("reshape", PICTURE, h=Symbol(8, 40, multiple_of=4), w=Symbol(8, 40, multiple_of=4))
def patches(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(n, (h // 4) * (w // 4), 16 * c)


# Caches


@_add("cache", (2, "past", 4), (2, 1, 4))
def appended(x: Tensor, y: Tensor) -> Tensor:
    full = torch.cat([x, y], 1)
    return (y @ full.mT).softmax(-1) @ full


@_add("cache", (2, 32, 4), (2, "n", 4))
def written_in_front(x: Tensor, y: Tensor) -> Tensor:
    x = x.clone()
    x[:, : y.shape[1]] = y
    return x


@_add("cache", (2, 24, 4), (2, "n", 4))
def written_at_the_end(x: Tensor, y: Tensor) -> Tensor:
    return torch.cat([x, y], 1)[:, y.shape[1] :]


@_add("cache", (2, 24, 4), (2, "n", 4))
def written_by_index(x: Tensor, y: Tensor) -> Tensor:
    return x.index_copy(1, torch.arange(y.shape[1]), y)


@_add("cache", (2, "past", 4), (2, "n", 4))
def causal_with_a_past(x: Tensor, y: Tensor) -> Tensor:
    full = torch.cat([x, y], 1)
    rows = torch.arange(y.shape[1])[:, None] + x.shape[1]
    mask = torch.arange(full.shape[1])[None] <= rows
    return functional.scaled_dot_product_attention(y, full, full, mask)


@_add("cache", (2, 24, 4), (2, "n", 4))
def whole_cache_overwritten(x: Tensor, y: Tensor) -> Tensor:
    x = x.clone()
    x[:, 24 - y.shape[1] :] = y
    x[:] = x * 2
    return x


@_add("cache", (2, "past", 4), (2, 1, 4))
def sliding_cache(x: Tensor, y: Tensor) -> Tensor:
    return torch.cat([x, y], 1)[:, -8:]


# Sorting


@_add("topk", ("n",))
def top_three_at_most(x: Tensor) -> Any:
    return torch.topk(x, min(3, x.shape[0]))


@_add("topk", ("n",), n=Symbol(5, 40))
def top_fifth(x: Tensor) -> Any:
    return torch.topk(x, x.shape[0] // 5)


@_add("topk", ("n",))
def top_of_all(x: Tensor) -> Any:
    return torch.topk(x, x.shape[0])


@_add("topk", ("n", 3))
def sorted_half(x: Tensor) -> Tensor:
    return x.sort(0).values[: x.shape[0] // 2 + 1]


@_add("topk", ("n", 3))
def middle_of_the_sorted(x: Tensor) -> Tensor:
    return x.sort(0).values[(x.shape[0] - 1) // 2]


@_add("topk", ("n",))
def kept_fraction(x: Tensor) -> Any:
    return torch.topk(x, max(1, int(x.shape[0] * 0.7)))


# Branches and loops


@_add("branch", ("n", 3))
def longer_than_three(x: Tensor) -> Tensor:
    return x * 2 if x.shape[0] > 3 else x


@_add("branch", ("n", 3))
def one_row(x: Tensor) -> Tensor:
    return x if x.shape[0] == 1 else x - x.mean(0)


@_add("branch", ("n", 3))
def odd_rows(x: Tensor) -> Tensor:
    return x[:-1] if x.shape[0] % 2 else x


@_add("branch", ("n", 3), ("m", 3))
def longer_of_two(x: Tensor, y: Tensor) -> Tensor:
    return x * 2 if x.shape[0] > y.shape[0] else y * 3


@_add("branch", ("n", 3))
def several_lengths(x: Tensor) -> Tensor:
    if x.shape[0] <= 4:
        return x + 1
    return x + 2 if x.shape[0] <= 12 else x + 3


@_add("branch", ("n", 3))
def short_sequences_only(x: Tensor) -> Tensor:
    if x.shape[0] > 16:
        raise ValueError("at most 16 positions")
    return x * 2


@_add("branch", ("n", 3))
def loop_over_rows(x: Tensor) -> Tensor:
    total = torch.zeros(3)
    for row in range(x.shape[0]):
        total = total * 0.5 + x[row]
    return total


@_add("branch", ("n", 3))
def rows_stacked(x: Tensor) -> Tensor:
    return torch.stack([row * 2 for row in x])


@_add("branch", ("n", 3), ("m", 3))
def shorter_of_two(x: Tensor, y: Tensor) -> Tensor:
    common = min(x.shape[0], y.shape[0])
    return x[:common] + y[:common]


@_add("branch", ("n", "n", 4))
def squeezed(x: Tensor) -> Tensor:
    return x.squeeze(0)


# Resizing


@_add("resize", PICTURE, **_image())
def halved(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=0.5, mode="bilinear")


@_add("resize", PICTURE, **_image())
def doubled(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=2, mode="nearest")


@_add("resize", PICTURE, **_image())
def scaled_by_one_and_a_half(x: Tensor) -> Tensor:
    return functional.interpolate(x, scale_factor=1.5, mode="bilinear", align_corners=False)


@_add("resize", PICTURE, ("n", 4, "a", "b"), a=Symbol(4, 24), b=Symbol(4, 24), **_image())
def resized_as_another(x: Tensor, y: Tensor) -> Tensor:
    return functional.interpolate(x, size=y.shape[2:], mode="bilinear", align_corners=True) + y


@_add("resize", PICTURE, **_image())
def down_and_up(x: Tensor) -> Tensor:
    small = functional.avg_pool2d(x, 2, 2, ceil_mode=True)
    return x + functional.interpolate(small, size=x.shape[2:], mode="nearest")


@_add("resize", PICTURE, **_image(16))
def skip_cropped(x: Tensor) -> Tensor:
    small = functional.interpolate(functional.max_pool2d(x, 2), scale_factor=2)
    return torch.cat([x[:, :, : small.shape[2], : small.shape[3]], small], 1)


@_add("resize", PICTURE, **_image())
def skip_padded(x: Tensor) -> Tensor:
    small = functional.interpolate(functional.max_pool2d(x, 2), scale_factor=2)
    wide, high = x.shape[3] - small.shape[3], x.shape[2] - small.shape[2]
    return torch.cat([x, functional.pad(small, (wide // 2, wide - wide // 2, high // 2, high - high // 2))], 1)


# Two symbols


@_add("two", ("n", 3), ("m", 3))
def sum_of_two(x: Tensor, y: Tensor) -> Tensor:
    return x + y


@_add("two", (3, "n"), ("m", 3))
def product_of_two(x: Tensor, y: Tensor) -> Tensor:
    return x @ y


@_add("two", ("n", 3), ("m", 3))
def joined(x: Tensor, y: Tensor) -> Tensor:
    return torch.cat([x, y])


@_add("two", ("n", 3), ("m", 3))
def one_padded_to_the_other(x: Tensor, y: Tensor) -> Tensor:
    longest = max(x.shape[0], y.shape[0])
    return functional.pad(x, (0, 0, 0, longest - x.shape[0])) + functional.pad(y, (0, 0, 0, longest - y.shape[0]))


@_add("two", (None, 3), (1, 3))
def sum_of_a_flexible_and_one(x: Tensor, y: Tensor) -> Tensor:
    return x + y


# Numbers made from sizes


@_add("number", ("n", 3))
def mean_by_hand(x: Tensor) -> Tensor:
    return x.sum(0) / x.shape[0]


@_add("number", ("n", 3))
def scaled_by_the_root(x: Tensor) -> Tensor:
    return x / math.sqrt(x.shape[0])


@_add("number", ("n", 4))
def positions(x: Tensor) -> Tensor:
    angles = torch.arange(x.shape[0])[:, None] * 10000 ** -(torch.arange(0, 4, 2) / 4)
    return x + torch.cat([angles.sin(), angles.cos()], 1)


@_add("number", ("n", 3))
def relative_positions(x: Tensor) -> Tensor:
    places = torch.arange(x.shape[0])
    table = torch.linspace(0, 1, 2 * 24 - 1)
    return table[places[:, None] - places[None] + 23] @ x


@_add("number", ("n", 3))
def spread(x: Tensor) -> Tensor:
    return x.std(0) + torch.linspace(0, 1, x.shape[0]).sum()


@_add("number", ("n", 3), n=Symbol(2, 24))
def levels_by_logarithm(x: Tensor) -> Tensor:
    return x * math.ceil(math.log2(x.shape[0]))


@_add("number", ("n", 3))
def rounded_part(x: Tensor) -> Tensor:
    return x[: round(x.shape[0] / 3) + 1] * 2


# Convolutions

WEIGHT = torch.linspace(-1, 1, 4 * 4 * 9).view(4, 4, 3, 3)


@_add("conv", PICTURE, **_image())
def strides_in_a_row(x: Tensor) -> Tensor:
    for _ in range(3):
        x = functional.conv2d(x, WEIGHT, None, 2, 1)
    return x


@_add("conv", PICTURE, **_image())
def unpadded(x: Tensor) -> Tensor:
    return functional.conv2d(functional.conv2d(x, WEIGHT), WEIGHT)


@_add("conv", PICTURE, **_image())
def transposed_to_the_same_size(x: Tensor) -> Tensor:
    small = functional.conv2d(x, WEIGHT, None, 2, 1)
    large = functional.conv_transpose2d(small, WEIGHT, None, 2, 1, output_padding=1)
    return large[:, :, : x.shape[2], : x.shape[3]] + x


@_add("conv", PICTURE, h=Symbol(1, 40), w=Symbol(1, 40))
def dilated_from_one_pixel(x: Tensor) -> Tensor:
    return functional.conv2d(x, WEIGHT, None, 1, 2, 2)
