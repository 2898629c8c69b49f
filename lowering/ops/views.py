"""Views by strides, which no later level has, as gathers. Lengths may be dynamic."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias, cast

import torch
from torch.fx import Node

from lowering.ops.rows import find_in_table

Tensor: TypeAlias = torch.Tensor


def take_diagonal(tensor: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """Return the diagonal of the matrices in `dim1` and `dim2`, as the last dim."""
    moved = tensor.movedim((dim1, dim2), (-2, -1))
    rows, columns = moved.shape[-2], moved.shape[-1]
    below, right = _split_offset(offset)
    length = torch.sym_max(torch.sym_min(rows - below, columns - right), 0)
    places = torch.arange(length, device=tensor.device)
    return moved.flatten(-2).index_select(-1, (places + below) * columns + (places + right))


def view_diagonal(tensor: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """Return the diagonal as `take_diagonal` does, but as a view: writes to it change `tensor`."""
    first, second = dim1 % tensor.dim(), dim2 % tensor.dim()
    below, right = _split_offset(offset)
    length = torch.sym_max(torch.sym_min(tensor.shape[first] - below, tensor.shape[second] - right), 0)
    rest = [dim for dim in range(tensor.dim()) if dim not in (first, second)]
    strides = tensor.stride()
    start = tensor.storage_offset() + below * strides[first] + right * strides[second]
    sizes, steps = [*(tensor.shape[dim] for dim in rest), length], [*(strides[dim] for dim in rest), strides[first] + strides[second]]
    return tensor.as_strided(sizes, steps, start)


def _split_offset(offset: int | torch.SymInt) -> tuple[Any, Any]:
    """Return (the row of the first element of a diagonal, its column)."""
    return torch.sym_max(-offset, 0), torch.sym_max(offset, 0)


def diag(tensor: Tensor, diagonal: int = 0) -> Tensor:
    """Return the diagonal of a matrix, or a matrix with a vector on its diagonal."""
    return diag_embed(tensor, diagonal) if tensor.dim() == 1 else take_diagonal(tensor, diagonal)


def split_with_sizes(tensor: Tensor, sizes: Sequence[int], dim: int = 0) -> list[Tensor]:
    """Split a dim into consecutive parts of the given sizes."""
    parts, start = [], 0
    for size in sizes:
        parts.append(tensor.narrow(dim, start, size))
        start = start + size
    return parts


def unflatten(tensor: Tensor, dim: int, sizes: Sequence[Any]) -> Tensor:
    """Split a dim into dims of the given sizes, one of which may be -1."""
    dim = dim % tensor.dim()
    before, size, after = tensor.shape[:dim], tensor.shape[dim], tensor.shape[dim + 1 :]
    known = math.prod(length for length in sizes if not _is_open(length))
    return tensor.reshape(*before, *(size // known if _is_open(length) else length for length in sizes), *after)


def _is_open(length: Any) -> bool:
    return isinstance(length, int) and length == -1


def diagonal_scatter(tensor: Tensor, source: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """Return `tensor` with the diagonal in `dim1` and `dim2` taken from the last dim of `source`."""
    moved = tensor.movedim((dim1, dim2), (-2, -1))
    rows, columns = (torch.arange(size, device=tensor.device) for size in moved.shape[-2:])
    places = (rows - _split_offset(offset)[0]).clamp(0, source.shape[-1] - 1)
    taken = source.index_select(-1, places).unsqueeze(-1)
    return torch.where(columns == rows.unsqueeze(-1) + offset, taken, moved).movedim((-2, -1), (dim1, dim2))


def diag_embed(tensor: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Return matrices in `dim1` and `dim2` with the last dim on their diagonal, and zeros elsewhere."""
    below, right = _split_offset(offset)
    rows, columns = (torch.arange(tensor.shape[-1] + below + right, device=tensor.device).unsqueeze(dim) for dim in (-1, 0))
    by_column = torch.nn.functional.pad(tensor, (right, below)).unsqueeze(-2)
    embedded = torch.where(columns == rows + offset, by_column, torch.zeros((), dtype=tensor.dtype, device=tensor.device))
    return embedded.movedim((-2, -1), (dim1, dim2))


def unfold(tensor: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """Return windows of `size` along a dim, `step` apart, as the last dim."""
    if tensor.dim() == 0:
        return tensor.unsqueeze(0)
    dimension = dimension % tensor.dim()
    count = (tensor.shape[dimension] - size) // step + 1
    starts = torch.arange(count, device=tensor.device) * step
    places = starts.unsqueeze(-1) + torch.arange(size, device=tensor.device)
    taken = tensor.index_select(dimension, places.flatten())
    shape = tensor.shape
    return taken.reshape(*shape[:dimension], count, size, *shape[dimension + 1 :]).movedim(dimension + 1, -1)


def unfold_backward(gradient: Tensor, input_size: Sequence[Any], dim: int, size: int, step: int) -> Tensor:
    """Compute aten::unfold_backward: the sum of overlapping windows (..., count, ..., size) along `dim` as (*input_size).

    torch's definition makes one scatter of windows in the shape that unfold gives, and `size` scatters of windows that are broadcast to it,
    as the envelope of an inverse Fourier transform of several signals is.
    """
    if input_size:
        shape = [*input_size, size]
        shape[dim % len(input_size)] = gradient.shape[dim % len(input_size)]
        gradient = gradient.expand(shape)
    return cast("Tensor", find_in_table(torch.ops.aten.unfold_backward.default)(gradient, input_size, dim, size, step))


def is_contiguous_storage(node: Node) -> bool:
    """Return whether an as_strided node's tensor is all of its memory in order, so that strides determine indices into it."""
    value = node.args[0].meta["val"]  # type: ignore[union-attr]
    return isinstance(value, torch.Tensor) and value.is_contiguous() and value.storage_offset() == 0


def as_strided(tensor: Tensor, size: Sequence[int], stride: Sequence[int], storage_offset: int | None = None) -> Tensor:
    """Return the elements at offset + sum(index * stride) of a tensor. `is_contiguous_storage` must hold for it."""
    places: Any = storage_offset or 0
    for dim, (length, step) in enumerate(zip(size, stride, strict=True)):
        steps = torch.arange(length, device=tensor.device) * step
        places = places + steps.reshape(-1, *(1 for _ in size[dim + 1 :]))
    if not size:
        places = torch.full((), places, dtype=torch.int64, device=tensor.device)
    return tensor.flatten().index_select(0, places.flatten()).reshape(size)


def pixel_shuffle(tensor: Tensor, upscale_factor: int) -> Tensor:
    """Rearrange (..., c * r^2, h, w) to (..., c, h * r, w * r)."""
    *lead, channels, height, width = tensor.shape
    factor, kept = upscale_factor, len(lead)
    parted = tensor.reshape(*lead, channels // factor**2, factor, factor, height, width)
    order = [*range(kept), kept, kept + 3, kept + 1, kept + 4, kept + 2]
    return parted.permute(order).reshape(*lead, channels // factor**2, height * factor, width * factor)


def pixel_unshuffle(tensor: Tensor, downscale_factor: int) -> Tensor:
    """Rearrange (..., c, h * r, w * r) to (..., c * r^2, h, w)."""
    *lead, channels, height, width = tensor.shape
    factor, kept = downscale_factor, len(lead)
    parted = tensor.reshape(*lead, channels, height // factor, factor, width // factor, factor)
    order = [*range(kept), kept, kept + 2, kept + 4, kept + 1, kept + 3]
    return parted.permute(order).reshape(*lead, channels * factor**2, height // factor, width // factor)


def channel_shuffle(tensor: Tensor, groups: int) -> Tensor:
    """Interleave the channels of the groups of (n, groups * c, ...)."""
    batch, channels, *spatial = tensor.shape
    return tensor.reshape(batch, groups, channels // groups, *spatial).transpose(1, 2).reshape(batch, channels, *spatial)


def keeps_dim(node: Node) -> bool:
    """Return whether a squeeze node changes nothing: its dim has more than one element, or tracing took it for such a dim."""
    source = node.args[0].meta["val"]  # type: ignore[union-attr]
    return bool(source.dim() and source.dim() == node.meta["val"].dim())


def keep_dim(tensor: Tensor, dim: int) -> Tensor:
    """Return the tensor itself: only dims of one element are squeezed."""
    return torch.ops.aten.alias.default(tensor)


def as_strided_scatter(tensor: Tensor, source: Tensor, size: Sequence[int], stride: Sequence[int],
                       storage_offset: int | None = None) -> Tensor:
    """Write `source` to the elements that `as_strided` would read. `is_contiguous_storage` must hold for the tensor."""
    flat = tensor.flatten()
    places = as_strided(torch.arange(flat.shape[0], device=tensor.device), size, stride, storage_offset)
    return flat.scatter(0, places.flatten(), source.flatten()).reshape(tensor.shape)


def view_as_dtype(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the same bits as elements of another dtype. The last dim is longer or shorter by the ratio of their sizes."""
    if dtype is tensor.dtype:
        return torch.ops.aten.alias.default(tensor)
    if dtype is torch.bool:
        return view_as_dtype(tensor, torch.uint8) != 0
    if tensor.dtype is torch.bool:
        return view_as_dtype(tensor.to(torch.uint8), dtype)
    if tensor.dtype.is_complex:
        pairs = torch.view_as_real(tensor)
        return view_as_dtype(pairs.reshape(*tensor.shape[:-1], 2 * tensor.shape[-1]), dtype)
    if dtype.is_complex:
        parts = view_as_dtype(tensor, dtype.to_real())
        return torch.view_as_complex(parts.reshape(*parts.shape[:-1], parts.shape[-1] // 2, 2))
    if tensor.element_size() == dtype.itemsize:
        return torch.ops.aten.view_copy.dtype(tensor, dtype)
    return _split_bits(tensor, dtype) if tensor.element_size() > dtype.itemsize else _join_bits(tensor, dtype)


_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}  # by size in bytes


def _split_bits(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return each element as several smaller ones, the lowest bits first: (..., n) -> (..., n * ratio)."""
    small = _INTEGERS[dtype.itemsize]
    bits = view_as_dtype(tensor, _INTEGERS[tensor.element_size()]).unsqueeze(-1)
    width, ratio = 8 * dtype.itemsize, tensor.element_size() // dtype.itemsize
    places = torch.arange(ratio, dtype=bits.dtype, device=tensor.device) * width
    if small is torch.uint8:
        parts = (bits >> places) & 255
    else:  # sign-extended, so that the conversion changes no number
        parts = (bits << (width * (ratio - 1) - places)) >> (width * (ratio - 1))
    *lead, size = tensor.shape
    return view_as_dtype(parts.to(small).reshape(*lead, size * ratio), dtype)


def _join_bits(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    """Return several elements as a larger one, the lowest bits first: (..., n * ratio) -> (..., n)."""
    large = _INTEGERS[dtype.itemsize]
    width, ratio = 8 * tensor.element_size(), dtype.itemsize // tensor.element_size()
    *lead, size = tensor.shape
    parts = view_as_dtype(tensor, _INTEGERS[tensor.element_size()]).to(large).reshape(*lead, size // ratio, ratio)
    places = torch.arange(ratio, dtype=large, device=tensor.device) * width
    return view_as_dtype(((parts & (2**width - 1)) << places).sum(-1, dtype=large), dtype)
