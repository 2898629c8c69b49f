"""Products of groups of rows or columns with a matrix each, as mixtures of experts have them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch

Tensor: TypeAlias = torch.Tensor


def grouped_mm(one: Tensor, other: Tensor, offs: Tensor | None = None, bias: Tensor | None = None,
               out_dtype: torch.dtype | None = None) -> Tensor:
    """Compute aten::_grouped_mm. Group g ends in front of place `offs[g]`, and begins where the one before it ends.

    The groups are of rows of `one` (rows, k) with matrices `other` (groups, k, n), of columns of `other` (k, columns) with `one`
    (groups, m, k), or of the contracted dim of two matrices, which gives (groups, m, n). What is in no group is 0; eager leaves it
    undefined. Without `offs` it is a batch of products. Sums are in float32. All rows are multiplied with each matrix. Raises
    NotImplementedError for a bias and for a number of groups that is no constant.
    """
    if bias is not None:
        raise NotImplementedError("takes a bias, which eager refuses too")
    dtype = out_dtype or one.dtype
    wide = torch.promote_types(one.dtype, torch.float32)
    one, other = one.to(wide), other.to(wide)
    if offs is None:
        return torch.bmm(one, other).to(dtype)
    count = offs.shape[0]
    if not isinstance(count, int):
        raise NotImplementedError("has a number of groups that is no constant")
    size = one.shape[0] if one.dim() == 2 and other.dim() == 3 else other.shape[-1] if one.dim() == 3 else one.shape[1]
    group = (offs.to(torch.int64).unsqueeze(0) <= torch.arange(size).unsqueeze(1)).sum(1)  # of each row; `count` after the last group
    if one.dim() == 2 and other.dim() == 2:
        return torch.stack([torch.mm(torch.where(group == number, one, 0), other) for number in range(count)]).to(dtype)
    of_rows = one.dim() == 2
    group = group.unsqueeze(1) if of_rows else group
    made = torch.zeros([size, other.shape[2]] if of_rows else [one.shape[1], size], dtype=wide)
    for number in range(count):
        product = torch.mm(one, other[number]) if of_rows else torch.mm(one[number], other)
        made = torch.where(group == number, product, made)
    return made.to(dtype)


# By name: that of transformers exists only once transformers is imported.
ROWS: dict[str, Callable[..., Any]] = {"aten::_grouped_mm": grouped_mm, "transformers::grouped_mm_fallback": grouped_mm}
