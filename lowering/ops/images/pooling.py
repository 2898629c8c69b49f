"""Pooling in every form of its schemas, at dynamic sizes: the windows are gathered, then reduced."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch.fx.experimental.symbolic_shapes import statically_known_true

from lowering.ops.division import compute_dtype

Tensor: TypeAlias = torch.Tensor


def adaptive_average(tensor: Tensor, output_size: Sequence[int]) -> Tensor:
    """Return the mean over each part of a map, dim by dim: (..., spatial dims) -> (..., *output_size)."""
    if all(size == 1 for size in output_size):
        return torch.mean(tensor, list(range(-len(output_size), 0)), keepdim=True)
    dtype = tensor.dtype
    tensor = tensor.to(compute_dtype(dtype))  # eager rounds a mean over all dims once
    for dim, size in zip(range(-len(output_size), 0), output_size, strict=True):
        inside = _part_mask(tensor, dim, size)
        moved = tensor.movedim(dim, -1).unsqueeze(-2)
        means = torch.where(inside, moved, 0).sum(-1) / inside.sum(-1).to(tensor.dtype)
        tensor = means.movedim(-1, dim)
    return tensor.to(dtype)


def adaptive_maximum(tensor: Tensor, output_size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Return the maximum of each part of a map (..., spatial dims), and its index in the map."""
    spatial = tensor.shape[-len(output_size) :]
    places = torch.arange(math.prod(spatial), device=tensor.device).reshape(spatial).expand(tensor.shape)
    for dim, size in reversed(list(zip(range(-len(output_size), 0), output_size, strict=True))):
        if statically_known_true(tensor.shape[dim] == size):
            continue  # each part is one element
        inside = _part_mask(tensor, dim, size)
        candidates = torch.where(inside, tensor.movedim(dim, -1).unsqueeze(-2), _lowest(tensor.dtype))
        most = candidates.amax(-1)
        best = _find_first(candidates, most, inside)
        moved = places.movedim(dim, -1)
        tensor, places = most.movedim(-1, dim), moved.gather(-1, best).movedim(-1, dim)
    return tensor, places


def _find_first(candidates: Tensor, most: Tensor, inside: Tensor) -> Tensor:
    """Return the first index along the last dim where a candidate that is `inside` is the greatest, even if all are minus infinity."""
    is_most = (candidates == most.unsqueeze(-1)) | candidates.isnan()
    return (inside & is_most).to(torch.uint8).argmax(-1)


def _part_mask(tensor: Tensor, dim: int, size: int) -> Tensor:
    """Return whether an index of `dim` is in a part, as (part, index).

    A part is [floor(part * length / size), ceil((part + 1) * length / size)).
    """
    length = tensor.shape[dim]
    part = torch.arange(size, device=tensor.device).unsqueeze(-1)
    place = torch.arange(length, device=tensor.device)
    starts = torch.div(part * length, size, rounding_mode="floor")
    ends = torch.div((part + 1) * length + size - 1, size, rounding_mode="floor")
    return (place >= starts) & (place < ends)


def maximum(rank: int, tensor: Tensor, kernel_size: Sequence[int], stride: Sequence[int] = (), padding: Sequence[int] = (0,),
            dilation: Sequence[int] = (1,), ceil_mode: bool = False) -> tuple[Tensor, Tensor]:
    """Return the maximum of each window over the last `rank` dims, and its first index in the map. NaN is the largest value."""
    settings = read_settings(rank, kernel_size, stride or kernel_size, padding, dilation)
    values, places, inside = number_windows(tensor, settings, ceil_mode)
    most = values.amax(-1)
    best = _find_first(values, most, inside.flatten(-rank)).unsqueeze(-1)
    return most, places.flatten(-rank).expand(values.shape).gather(-1, best).squeeze(-1)


def maximum_values(rank: int, tensor: Tensor, *settings: Any, **named: Any) -> Tensor:
    """Return the maximum of each window over the last `rank` dims."""
    return maximum(rank, tensor, *settings, **named)[0]


def average(rank: int, tensor: Tensor, kernel_size: Sequence[int], stride: Sequence[int] = (), padding: Sequence[int] = (0,),
            ceil_mode: bool = False, count_include_pad: bool = True, divisor_override: int | None = None) -> Tensor:
    """Return the mean of each window over the last `rank` dims, with the elements of the padding or without them."""
    settings = read_settings(rank, kernel_size, stride or kernel_size, padding, (1,))
    last = list(range(-rank, 0))
    if _is_one_window(tensor.shape[-rank:], settings):
        if divisor_override is None:
            return tensor.mean(last, keepdim=True)
        return _divide(tensor.sum(last, keepdim=True), divisor_override)
    values, inside = _gather_windows(tensor, settings, ceil_mode)
    total = torch.where(inside, values, 0).sum(last)
    if divisor_override is not None:
        return _divide(total, divisor_override)
    if count_include_pad:
        inside = _is_inside(tensor, settings, ceil_mode, padded=True)
    return _divide(total, inside.sum(last))


def fractional_maximum(tensor: Tensor, kernel_size: Sequence[int], output_size: Sequence[Any],
                       random_samples: Tensor) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return the maximum of each window of a fractional pooling, and its index in the map: (n, c, spatial dims) -> (n, c, *output_size).

    random_samples: (n, c, number of spatial dims): for two dims, the last one first.
    """
    rank = random_samples.shape[-1]
    if tensor.dim() == rank + 1:
        values, places = fractional_maximum(tensor.unsqueeze(0), kernel_size, output_size, random_samples)
        return values.squeeze(0), places.squeeze(0)
    lead, spatial, settings = tensor.shape[:2], tensor.shape[-rank:], read_settings(rank, kernel_size, output_size)
    values, places = tensor, torch.zeros((), dtype=torch.int64, device=tensor.device)
    for dim, (kernel, count) in enumerate(settings):
        starts = _fractional_starts(spatial[dim], kernel, count, random_samples[..., 1 - dim if rank == 2 else dim])
        taken = (starts.unsqueeze(-1) + torch.arange(kernel, device=tensor.device)).flatten(-2)  # (n, c, count * kernel)
        index = taken.reshape(*lead, *(taken.shape[-1] if place == dim else 1 for place in range(rank)))
        values = values.gather(2 + dim, index.expand(*lead, *values.shape[2 : 2 + dim], taken.shape[-1], *values.shape[3 + dim :]))
        places = places + index * math.prod(spatial[dim + 1 :])
    windows = [length for kernel, count in settings for length in (count, kernel)]
    order = [0, 1, *range(2, 2 + 2 * rank, 2), *range(3, 3 + 2 * rank, 2)]
    values, places = (part.reshape(*lead, *windows).permute(order).flatten(-rank) for part in (values, places))
    best = values.argmax(-1, keepdim=True)
    return values.gather(-1, best).squeeze(-1), places.gather(-1, best).squeeze(-1)


def _fractional_starts(size: Any, kernel: int, count: Any, samples: Tensor) -> Tensor:
    """Return where the windows of a dim start: samples (...) -> (..., count), the last one at the end of the dim."""
    last, number, samples = size - kernel, torch.arange(count, device=samples.device), samples.unsqueeze(-1)
    step = torch.scalar_tensor(last, dtype=samples.dtype) / torch.sym_max(count - 1, 1)
    starts = ((number.to(samples.dtype) + samples) * step).to(torch.int64) - (samples * step).to(torch.int64)
    return torch.where(number == count - 1, last, starts)


def _is_one_window(sizes: Sequence[Any], settings: Sequence[Sequence[int]]) -> bool:
    """Return whether a window covers the whole map at every size of its range.

    The last pooling of a classifier is such a case. Gathering would take memory for the whole kernel.
    """
    pairs = zip(sizes, settings, strict=True)
    return all(padding == 0 and statically_known_true(size <= kernel) for size, (kernel, _, padding, _) in pairs)


def read_settings(rank: int, *given: Sequence[int]) -> list[tuple[int, ...]]:
    """Return (kernel, stride, padding, dilation) of each spatial dim. A single value applies to all dims."""
    listed = [list(values) if isinstance(values, list | tuple) else [values] for values in given]
    widened = [values * (rank if len(values) == 1 else 1) for values in listed]
    return list(zip(*widened, strict=True))  # type: ignore[arg-type]


def _divide(total: Tensor, divisor: Any) -> Tensor:
    return total / divisor if total.dtype.is_floating_point else torch.div(total, divisor, rounding_mode="trunc").to(total.dtype)


def count_windows(size: Any, kernel: int, before: int, after: int, stride: int, dilation: int, ceil_mode: bool) -> Any:
    """Return how many windows a dim of `size` has, without a branch on `size`. before, after: its padding.

    With `ceil_mode` the last window may reach beyond the end, but begins before the padding at the end.
    """
    reach = size + before + after - dilation * (kernel - 1) - 1
    if not ceil_mode:
        return reach // stride + 1
    rounded_up = (reach + stride - 1) // stride + 1
    if statically_known_true(after + stride <= dilation * (kernel - 1) + 1):
        return rounded_up  # its last window always begins there
    return torch.sym_min(rounded_up, (size + before + stride - 1) // stride)


def _window_indices(size: Any, settings: Sequence[int], ceil_mode: bool, device: torch.device) -> Tensor:
    """Return the indices along a dim as (window, step), including those in the padding."""
    kernel, stride, padding, dilation = settings
    count = count_windows(size, kernel, padding, padding, stride, dilation, ceil_mode)
    starts = torch.arange(count, device=device) * stride - padding
    return starts.unsqueeze(-1) + torch.arange(kernel, device=device) * dilation


def _is_inside(tensor: Tensor, settings: Sequence[Sequence[int]], ceil_mode: bool, padded: bool = False) -> Tensor:
    """Return whether an index is in the map, as (*windows, *kernel). If `padded`, the padding counts as part of the map."""
    rank = len(settings)
    inside = torch.ones((), dtype=torch.bool, device=tensor.device)
    for dim, given in enumerate(settings):
        size, edge = tensor.shape[dim - rank], given[2] if padded else 0
        places = _window_indices(size, given, ceil_mode, tensor.device)
        axes = [1] * (2 * rank)
        axes[dim], axes[rank + dim] = places.shape
        inside = inside & ((places >= -edge) & (places < size + edge)).reshape(axes)
    return inside


def _gather_windows(tensor: Tensor, settings: Sequence[Sequence[int]], ceil_mode: bool) -> tuple[Tensor, Tensor]:
    """Return the windows (..., *windows, *kernel), and which of their elements are in the map. The others have arbitrary values."""
    inside, first = _is_inside(tensor, settings, ceil_mode), tensor.dim() - len(settings)
    for dim, given in enumerate(settings, first):
        size = tensor.shape[dim]
        places = _window_indices(size, given, ceil_mode, tensor.device)
        taken = tensor.index_select(dim, places.clamp(0, size - 1).flatten())
        tensor = taken.reshape(*taken.shape[:dim], *places.shape, *taken.shape[dim + 1 :]).movedim(dim + 1, -1)
    return tensor, inside


def number_windows(tensor: Tensor, settings: Sequence[Sequence[int]], ceil_mode: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Return the elements of each window as (..., *windows, elements), their indices in the map, and which of them are in it.

    The others have the least value. Indices and the last result are (*windows, *kernel).
    """
    rank = len(settings)
    values, inside = _gather_windows(tensor, settings, ceil_mode)
    spatial = tensor.shape[-rank:]
    numbered = torch.arange(math.prod(spatial), device=tensor.device).reshape(spatial)
    places, _ = _gather_windows(numbered, settings, ceil_mode)
    return torch.where(inside, values, _lowest(tensor.dtype)).flatten(-rank), places, inside


def _lowest(dtype: torch.dtype) -> float:
    return -math.inf if dtype.is_floating_point else torch.iinfo(dtype).min
