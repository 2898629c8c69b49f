"""Changes of shape, caches, and arguments of two sizes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.export_forms.form import PICTURE, add, image
from lowering.model import Symbol

# Shapes


@add("reshape", ("n", "m", 3))
def flattened_and_back(x: Tensor) -> Tensor:
    return (x.flatten(0, 1) * 2).unflatten(0, (x.shape[0], x.shape[1]))


@add("reshape", ("n", "m", 3))
def flattened_and_guessed(x: Tensor) -> Tensor:
    return (x.flatten(0, 1) * 2).unflatten(0, (-1, x.shape[1]))


@add("reshape", ("n", 3), n=Symbol(1, 24, example=6))
def pairs_of_rows(x: Tensor) -> Tensor:
    return x.reshape(-1, 2, 3).sum(1)


@add("reshape", ("n", 3), n=Symbol(2, 24, multiple_of=2))
def pairs_of_even_rows(x: Tensor) -> Tensor:
    return x.reshape(-1, 2, 3).sum(1)


@add("reshape", ("n", 3), n=Symbol(4, 24, multiple_of=4))
def rows_in_four_groups(x: Tensor) -> Tensor:
    return x.reshape(4, x.shape[0] // 4, 3).transpose(0, 1).reshape(x.shape[0], 3)


@add("reshape", PICTURE, **image())
def channels_shuffled(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


@add("reshape", PICTURE, **image())
def pixels_shuffled(x: Tensor) -> Tensor:
    return functional.pixel_shuffle(x, 2)


@add("reshape", PICTURE, h=Symbol(2, 24, multiple_of=2), w=Symbol(2, 24, multiple_of=2))
def pixels_unshuffled(x: Tensor) -> Tensor:
    return functional.pixel_unshuffle(x, 2)


@add("reshape", ("n", "m", 8))
def heads(x: Tensor) -> Tensor:
    n, m, _ = x.shape
    query = x.view(n, m, 2, 4).transpose(1, 2)
    return functional.scaled_dot_product_attention(query, query, query).transpose(1, 2).reshape(n, m, 8)


@add("reshape", ("n", 3), ("m", 3))
def all_pairs(x: Tensor, y: Tensor) -> Tensor:
    return (x[:, None] - y[None]).abs().sum(-1)


@add("reshape", ("n", 3))
def repeated(x: Tensor) -> Tensor:
    return x.repeat(2, x.shape[0]).reshape(-1, 3)


@add("reshape", ("n", 3))
def interleaved(x: Tensor) -> Tensor:
    return x.repeat_interleave(3, 0)


@add("reshape", PICTURE, **image())
def tokens_and_back(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return (x.flatten(2).transpose(1, 2) * 2).transpose(1, 2).reshape(n, c, h, w)


@add("reshape", PICTURE, h=Symbol(8, 40, multiple_of=4), w=Symbol(8, 40, multiple_of=4))
def patches(x: Tensor) -> Tensor:
    n, c, h, w = x.shape
    return x.reshape(n, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(n, (h // 4) * (w // 4), 16 * c)


# Caches


@add("cache", (2, "past", 4), (2, 1, 4))
def appended(x: Tensor, y: Tensor) -> Tensor:
    full = torch.cat([x, y], 1)
    return (y @ full.mT).softmax(-1) @ full


@add("cache", (2, 32, 4), (2, "n", 4))
def written_in_front(x: Tensor, y: Tensor) -> Tensor:
    x = x.clone()
    x[:, : y.shape[1]] = y
    return x


@add("cache", (2, 24, 4), (2, "n", 4))
def written_at_the_end(x: Tensor, y: Tensor) -> Tensor:
    return torch.cat([x, y], 1)[:, y.shape[1] :]


@add("cache", (2, 24, 4), (2, "n", 4))
def written_by_index(x: Tensor, y: Tensor) -> Tensor:
    return x.index_copy(1, torch.arange(y.shape[1]), y)


@add("cache", (2, "past", 4), (2, "n", 4))
def causal_with_a_past(x: Tensor, y: Tensor) -> Tensor:
    full = torch.cat([x, y], 1)
    rows = torch.arange(y.shape[1])[:, None] + x.shape[1]
    mask = torch.arange(full.shape[1])[None] <= rows
    return functional.scaled_dot_product_attention(y, full, full, mask)


@add("cache", (2, 24, 4), (2, "n", 4))
def whole_cache_overwritten(x: Tensor, y: Tensor) -> Tensor:
    x = x.clone()
    x[:, 24 - y.shape[1] :] = y
    x[:] = x * 2
    return x


@add("cache", (2, "past", 4), (2, 1, 4))
def sliding_cache(x: Tensor, y: Tensor) -> Tensor:
    return torch.cat([x, y], 1)[:, -8:]


# Two symbols


@add("two", ("n", 3), ("m", 3))
def sum_of_two(x: Tensor, y: Tensor) -> Tensor:
    return x + y


@add("two", (3, "n"), ("m", 3))
def product_of_two(x: Tensor, y: Tensor) -> Tensor:
    return x @ y


@add("two", ("n", 3), ("m", 3))
def joined(x: Tensor, y: Tensor) -> Tensor:
    return torch.cat([x, y])


@add("two", ("n", 3), ("m", 3))
def one_padded_to_the_other(x: Tensor, y: Tensor) -> Tensor:
    longest = max(x.shape[0], y.shape[0])
    return functional.pad(x, (0, 0, 0, longest - x.shape[0])) + functional.pad(y, (0, 0, 0, longest - y.shape[0]))


@add("two", (None, 3), (1, 3))
def sum_of_a_flexible_and_one(x: Tensor, y: Tensor) -> Tensor:
    return x + y
