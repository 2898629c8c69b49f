"""Interpolation at any output size, dim by dim: nearest as a gather of rows, antialiased as weighted windows.

Indices and weights equal those of eager's CPU kernels to the last bit. This determines the order of their arithmetic, and its dtypes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch.fx.experimental.symbolic_shapes import statically_known_true

from lowering.ops.images import byte_resizing
from lowering.ops.images.cubic import weigh_far, weigh_near

Tensor: TypeAlias = torch.Tensor
Scale: TypeAlias = float | torch.SymFloat | None  # as the user passed it; None: the quotient of the sizes


def make_vec_form(sized: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return the form of an op that takes an output size or scale factors (`.vec`).

    `sized` takes an output size and scales.
    """

    def resize(tensor: Tensor, output_size: Sequence[Any] | None, *rest: Any) -> Tensor:
        *settings, factors = rest
        size = list(output_size) if output_size is not None else scale_sizes(tensor.shape[2:], factors)
        return sized(tensor, size, *settings, *(factors if factors is not None else [None] * len(size)))  # type: ignore[no-any-return]

    return resize


def scale_sizes(sizes: Sequence[Any], factors: Sequence[float | torch.SymFloat]) -> list[Any]:
    """Return sizes by scale factors, rounded down. Those by whole numbers need no floats."""
    pairs = zip(sizes, factors, strict=True)
    return [size * int(factor) if isinstance(factor, int | float) and int(factor) == factor else torch.sym_int(size * factor)
            for size, factor in pairs]


def resize_by(tensor: Tensor, factors: Sequence[Any], mode: str, align_corners: bool, antialias: bool) -> Tensor | None:
    """Compute torch.nn.functional.interpolate by scale factors, symbolic ones too. Returns None for a mode without an op of its own."""
    settings = () if mode.startswith("nearest") else (align_corners,)
    size = scale_sizes(tensor.shape[2:], factors)
    kernels: dict[tuple[str, bool], Callable[..., Tensor]] = {
        ("nearest", False): nearest, ("nearest-exact", False): nearest_exact, ("linear", False): linear, ("bilinear", False): linear,
        ("trilinear", False): linear, ("bicubic", False): bicubic, ("bilinear", True): bilinear_antialiased,
        ("bicubic", True): bicubic_antialiased,
    }  # fmt: skip
    kernel = kernels.get((mode, antialias))
    return kernel(tensor, size, *settings, *factors) if kernel is not None else None


def nearest(tensor: Tensor, output_size: Sequence[Any], *scales: Scale) -> Tensor:
    """Compute aten::upsample_nearest1d, 2d or 3d."""
    return _nearest(tensor, output_size, scales, exact=False)


def nearest_exact(tensor: Tensor, output_size: Sequence[Any], *scales: Scale) -> Tensor:
    """Compute aten::_upsample_nearest_exact1d, 2d or 3d."""
    return _nearest(tensor, output_size, scales, exact=True)


def _nearest(tensor: Tensor, output_size: Sequence[Any], scales: Sequence[Scale], exact: bool) -> Tensor:
    rank = len(output_size)
    for dim, (size, scale) in enumerate(zip(output_size, scales or [None] * rank, strict=True), 2):
        before, factor = tensor.shape[dim], _repeat_factor(tensor.shape[dim], size, scale)
        if factor is not None and (not exact or factor % 2 == 0 or factor == 1):
            tensor = _repeat(tensor, dim, factor)
        else:
            tensor = tensor.index_select(dim, _nearest_indices(before, size, scale, exact, rank, tensor))
    return tensor


def _repeat_factor(before: Any, after: Any, scale: Scale) -> int | None:
    """Return the power of two by which a dim grows at every size, or None.

    Its scale is exact, so that each element is repeated.
    """
    for factor in (1, 2, 4, 8, 16, 32, 64):
        if statically_known_true(after == before * factor):
            return factor if scale is None or scale == factor else None
    return None


def _repeat(tensor: Tensor, dim: int, factor: int) -> Tensor:
    """Repeat each element `factor` times along a dim, by a broadcast."""
    if factor == 1:
        return tensor
    shape = list(tensor.shape)
    wide = tensor.unsqueeze(dim + 1).expand(*shape[: dim + 1], factor, *shape[dim + 1 :])
    return wide.reshape(*shape[:dim], shape[dim] * factor, *shape[dim + 1 :])


def _nearest_indices(before: Any, after: Any, scale: Scale, exact: bool, rank: int, like: Tensor) -> Tensor:
    """Return the source index of every output index.

    Eager computes it in single precision in 2-d, else in the precision of the tensor.
    """
    dtype = torch.float64 if like.dtype == torch.float64 and rank != 2 else torch.float32
    step, places = _output_step(before, after, scale, dtype, like.device), torch.arange(after, device=like.device)
    if not exact:
        found = _floor(places.to(dtype) * step)
        if rank == 2 and scale is not None:  # eager's shortcuts, which also apply if the scale is rounded
            sizes = torch.scalar_tensor(before, dtype=torch.int64), torch.scalar_tensor(after, dtype=torch.int64)
            found = torch.where(sizes[1] == 2 * sizes[0], places // 2, found)
            found = torch.where(sizes[1] == sizes[0], places, found)
    elif rank == 2:
        found = _floor((places.to(dtype) + 0.5) * step)
    else:  # a fused multiply-add, which rounds once
        found = _floor(((places + 0.5).double() * step.double() - 0.5).to(dtype) + 0.5)
    return found.clamp(max=before - 1)


def _floor(value: Tensor) -> Tensor:
    return value.float().floor().to(torch.int64)


def _output_step(before: Any, after: Any, scale: Scale, dtype: torch.dtype, device: torch.device, align_corners: bool = False) -> Tensor:
    """Return the distance of neighbouring outputs, in units of the input, as a 0-d tensor."""
    if not align_corners and scale is not None and scale > 0:
        return torch.scalar_tensor(1.0 / scale, dtype=dtype, device=device)
    first, second = (torch.scalar_tensor(size, dtype=dtype, device=device) for size in (before, after))
    if not align_corners:
        return first / second
    return torch.where(second > 1, (first - 1) / (second - 1).clamp(min=1), 0)


def linear(tensor: Tensor, output_size: Sequence[Any], align_corners: bool, *scales: Scale) -> Tensor:
    """Compute aten::upsample_linear1d, upsample_bilinear2d or upsample_trilinear3d."""
    return _interpolate(tensor, output_size, align_corners, scales, _linear_taps)


def bicubic(tensor: Tensor, output_size: Sequence[Any], align_corners: bool, *scales: Scale) -> Tensor:
    """Compute aten::upsample_bicubic2d."""
    return _interpolate(tensor, output_size, align_corners, scales, _cubic_taps)


def _interpolate(tensor: Tensor, output_size: Sequence[Any], align_corners: bool, scales: Sequence[Scale],
            taps: Callable[[Tensor], list[tuple[Tensor, Tensor]]]) -> Tensor:
    """Interpolate dim by dim, bytes from the last one.

    An output is the weighted sum of the few inputs around its source.
    """
    is_bytes = tensor.dtype == torch.uint8
    dtype = torch.float64 if tensor.dtype == torch.float64 or is_bytes else torch.float32
    result = tensor if is_bytes else tensor.to(dtype)
    dims = list(enumerate(zip(output_size, scales or [None] * len(output_size), strict=True), 2))
    for dim, (size, scale) in reversed(dims) if is_bytes else dims:
        before, step = tensor.shape[dim], _output_step(tensor.shape[dim], size, scale, dtype, tensor.device, align_corners)
        places = torch.arange(size, device=tensor.device).to(dtype)
        source = places * step if align_corners else (places + 0.5) * step - 0.5
        pairs = [(index.clamp(min=0).clamp(max=before - 1), weight) for index, weight in taps(source)]
        taken = [result.index_select(dim, index) for index, _ in pairs]
        if is_bytes:
            indices, weights = (torch.stack(parts, -1) for parts in zip(*pairs, strict=True))
            pixels = torch.stack([part.movedim(dim, -1) for part in taken], -1)
            result = byte_resizing.add_weighted(pixels, byte_resizing.merge_taps(indices, weights)).movedim(-1, dim)
        else:
            around = [-1, *[1] * (tensor.dim() - dim - 1)]
            result = functools.reduce(torch.add, [part * weight.reshape(around) for part, (_, weight) in zip(taken, pairs, strict=True)])
    return result.to(tensor.dtype)


def _linear_taps(source: Tensor) -> list[tuple[Tensor, Tensor]]:
    source = source.clamp(min=0)
    low = source.floor()
    return [(low.to(torch.int64), 1 - (source - low)), (low.to(torch.int64) + 1, source - low)]


def _cubic_taps(source: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Return the indices and weights of Keys' kernel with a = -0.75, as in OpenCV."""
    low, a = source.floor(), -0.75
    t, first = source - low, low.to(torch.int64) - 1
    return [(first, weigh_far(t + 1, a)), (first + 1, weigh_near(t, a)),
            (first + 2, weigh_near(1 - t, a)), (first + 3, weigh_far(2 - t, a))]


def _triangle(distance: Tensor) -> Tensor:
    return (1 - distance.abs()).clamp(min=0)


def _cubic(distance: Tensor) -> Tensor:
    """Return Keys' kernel with a = -0.5, as in Pillow."""
    x, a = distance.abs(), -0.5
    near, far = weigh_near(x, a), (((x - 5) * x + 8) * x - 4) * a  # eager factors `a` out here, which rounds differently
    return torch.where(x < 1, near, torch.where(x < 2, far, 0))


def bilinear_antialiased(tensor: Tensor, output_size: Sequence[Any], align_corners: bool, *scales: Scale) -> Tensor:
    """Compute aten::_upsample_bilinear2d_aa."""
    return _resize_antialiased(tensor, output_size, align_corners, scales, _triangle, 1)


def bicubic_antialiased(tensor: Tensor, output_size: Sequence[Any], align_corners: bool, *scales: Scale) -> Tensor:
    """Compute aten::_upsample_bicubic2d_aa."""
    return _resize_antialiased(tensor, output_size, align_corners, scales, _cubic, 2)


def _resize_antialiased(tensor: Tensor, output_size: Sequence[Any], align_corners: bool, scales: Sequence[Scale],
                 kernel: Callable[[Tensor], Tensor], reach: int) -> Tensor:
    result = tensor if tensor.dtype in (torch.float64, torch.uint8) else tensor.to(torch.float32)
    for dim, size, scale in reversed(list(zip((2, 3), output_size, scales or (None, None), strict=True))):
        result = _filter(result, dim, size, scale, align_corners, kernel, reach)
    return result.to(tensor.dtype)


def _filter(tensor: Tensor, dim: int, size: Any, scale: Scale, align_corners: bool, kernel: Callable[[Tensor], Tensor],
              reach: int) -> Tensor:
    """Filter one dim with weights (output, index in its window).

    Elements outside of the window do not count, even if they are infinite.
    """
    before, device, is_bytes = tensor.shape[dim], tensor.device, tensor.dtype == torch.uint8
    dtype = torch.float64 if is_bytes else tensor.dtype
    step = _output_step(before, size, scale, dtype, device, align_corners)
    support = step.clamp(min=1) * reach
    centers = (torch.arange(size, device=device).to(dtype) + 0.5) * step
    first = (centers - support + 0.5).to(torch.int64).clamp(min=0)
    behind = (centers + support + 0.5).to(torch.int64).clamp(max=before)
    width = _window_width(before, size, scale, align_corners, reach)
    if width is None:  # the width of the window is unknown, so it is the whole dim
        places = torch.arange(before, device=device).unsqueeze(0)
    else:
        places = first.unsqueeze(1) + torch.arange(width, device=device)
    inside = (places >= first.unsqueeze(1)) & (places < behind.unsqueeze(1))
    weights = torch.where(inside, kernel((places - centers.unsqueeze(1) + 0.5) / step.clamp(min=1)), 0)
    weights = weights / weights.sum(1, keepdim=True)
    moved = tensor.movedim(dim, -1)
    if width is None:
        moved = moved.unsqueeze(-2)
    else:
        taken = moved.index_select(-1, places.clamp(max=before - 1).flatten())
        moved = taken.reshape(*moved.shape[:-1], size, width)
    if is_bytes:
        return byte_resizing.add_weighted(moved, weights).movedim(-1, dim)
    return torch.where(inside, moved * weights, 0).sum(-1).movedim(-1, dim)


def _window_width(before: Any, after: Any, scale: Scale, align_corners: bool, reach: int) -> int | None:
    """Return the number of inputs that an output can depend on, if it is the same at all sizes, else None."""
    if not align_corners and scale is not None and scale > 0:
        step = 1.0 / scale
    elif isinstance(before, int) and isinstance(after, int):
        step = (before - 1) / max(after - 1, 1) if align_corners else before / after
    else:
        return None
    return math.ceil(max(step, 1.0) * reach) * 2 + 1
