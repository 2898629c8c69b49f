"""Ops whose result or gradient jumps where an operand crosses a number or another element, and how far each element is from there."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from lowering.ops.images import pooling

_MOST = 1 << 26  # elements of all windows of a pooling, above which it is left out


@dataclass(frozen=True)
class Kinks:
    """The operand of an op, by position, and the signed distance of each of its elements: taking off twice of it moves the element across.

    NaN stands for elements that have no kink near.
    """

    position: int
    distances: torch.Tensor


Finder = Callable[[Sequence[Any]], Kinks | None]


def has(op: Any) -> bool:
    """Return whether an op may have kinks."""
    return op.overloadpacket.__name__ in _FINDERS


def find(op: Any, args: Sequence[Any]) -> Kinks | None:
    """Return the kinks of an op on float64 operands, or None if it has none."""
    finder = _FINDERS.get(op.overloadpacket.__name__)
    found = finder(args) if finder else None
    return found if found is not None and found.distances.dtype is torch.float64 and found.distances.numel() else None


def _from_numbers(position: int, *numbers: float) -> Finder:
    """Return a finder for an op that jumps at fixed numbers."""
    return lambda args: _measure(position, args[position], numbers)


def _measure(position: int, operand: torch.Tensor, numbers: Sequence[float]) -> Kinks:
    distances = operand - numbers[0]
    for number in numbers[1:]:
        other = operand - number
        distances = torch.where(other.abs() < distances.abs(), other, distances)
    return Kinks(position, distances)


def _from_bounds(args: Sequence[Any]) -> Kinks:
    """Measure the operand of `hardtanh_backward(grad, self, min, max)`."""
    return _measure(1, args[1], args[2:4])


def _from_threshold(args: Sequence[Any]) -> Kinks:
    """Measure the operand of `threshold_backward(grad, self, threshold)`. That of a ReLU is its result: zeros are on no kink."""
    return _measure(1, args[1], args[2:3])


def _from_both(args: Sequence[Any]) -> Kinks:
    """Measure the operand of `softshrink_backward(grad, self, lambda)`, and of others that jump at a number of both signs."""
    return _measure(1, args[1], (args[2], -args[2]))


def _from_comparison(args: Sequence[Any]) -> Kinks | None:
    """Measure the operand of a comparison that has the shape of its result."""
    one, other = args[:2]
    if not isinstance(one, torch.Tensor) or not one.is_floating_point():
        return None
    if not isinstance(other, torch.Tensor):
        return _measure(0, one, (other,))
    if not other.is_floating_point():
        return None
    distances = one - other
    return Kinks(0, distances) if distances.shape == one.shape else Kinks(1, -distances) if distances.shape == other.shape else None


def _from_extreme(sign: int) -> Finder:
    """Return a finder for the largest (1) or smallest (-1) elements along a dim: the first two of each slice may change places."""

    def find_first_two(args: Sequence[Any]) -> Kinks | None:
        operand = args[0]
        if len(args) < 2:
            return _from_equal(sign)(args)
        if operand.dtype is not torch.float64 or isinstance(args[1], torch.Tensor) or not operand.dim():
            return None
        return _measure_first_two(operand, args[1], sign, may_raise=True)

    return find_first_two


def _from_equal(sign: int) -> Finder:
    """Return a finder for the largest (1) or smallest (-1) elements whose gradient goes to the elements that equal the result.

    Only the first of each slice may be moved: the second, raised, would equal no element.
    """

    def find_first(args: Sequence[Any]) -> Kinks | None:
        operand, dims = args[0], list(args[1]) if len(args) > 1 else []
        if operand.dtype is not torch.float64 or operand.numel() < 2 or (len(dims) > 1 and len(dims) < operand.dim()):
            return None
        slices, dim = (operand, dims[0]) if len(dims) == 1 and operand.dim() else (operand.reshape(-1), 0)
        found = _measure_first_two(slices, dim, sign, may_raise=False)
        return found and Kinks(0, found.distances.reshape(operand.shape))

    return find_first


def _measure_first_two(slices: torch.Tensor, dim: int, sign: int, *, may_raise: bool) -> Kinks | None:
    """Measure how far the largest (1) or smallest (-1) two elements of each slice are from each other.

    may_raise: whether the second may be moved past the first, too.
    """
    if slices.shape[dim] < 2:
        return None
    values, indices = slices.topk(2, dim, largest=sign > 0)
    moved = 2 if may_raise else 1
    gaps = (values - values.flip(dim)).narrow(dim, 0, moved)
    return Kinks(0, torch.full_like(slices, math.nan).scatter_(dim, indices.narrow(dim, 0, moved), gaps))


def _from_windows(count: int) -> Finder:
    """Return a finder for a maximum over the windows of the last `count` dims: the first two of each may change places."""

    def find_first_two(args: Sequence[Any]) -> Kinks | None:
        operand, kernel, stride, padding, dilation, ceil_mode = (*args, *_POOLING[len(args) :])
        if operand.dtype is not torch.float64:
            return None
        settings = pooling.read_settings(count, kernel, stride or kernel, padding, dilation)
        size, shape = math.prod(length for length, *_ in settings), operand.shape[-count:]
        windows = math.prod(pooling.count_windows(dim, length, before, before, step, spacing, ceil_mode)
                            for dim, (length, step, before, spacing) in zip(shape, settings, strict=True))
        if windows * size * operand.numel() > _MOST * math.prod(shape) or size < 2:
            return None
        values, places, _ = pooling.number_windows(operand, settings, ceil_mode)
        top, order = values.topk(2, -1)
        gaps = (top[..., 0] - top[..., 1]).nan_to_num(math.inf, math.inf, math.inf).flatten(-count)
        indices = places.flatten(-count).expand(values.shape).gather(-1, order).flatten(-count - 1, -2)
        flat = torch.full_like(operand.flatten(-count), math.inf)
        down, up = (flat.scatter_reduce(-1, each, gaps, "amin") for each in indices.unbind(-1))
        return Kinks(0, torch.where(down < up, down, -up).reshape(operand.shape))  # by the smallest gap of all its windows

    return find_first_two


_POOLING: Sequence[Any] = (None, None, None, 0, 1, False)  # defaults of input, kernel_size, stride, padding, dilation, ceil_mode

_COMPARISONS = dict.fromkeys(("gt", "ge", "lt", "le"), _from_comparison)
_FINDERS: Mapping[str, Finder] = {
    **_COMPARISONS,
    **dict.fromkeys(("relu", "relu_", "sign", "sgn"), _from_numbers(0, 0.0)),
    **dict.fromkeys(("leaky_relu_backward", "_prelu_kernel_backward"), _from_numbers(1, 0.0)),
    **dict.fromkeys(("hardswish_backward", "hardsigmoid_backward"), _from_numbers(1, -3.0, 3.0)),
    **dict.fromkeys(("softshrink_backward", "hardshrink_backward"), _from_both),
    "elu_backward": _from_numbers(5, 0.0),
    "hardtanh_backward": _from_bounds,
    "threshold_backward": _from_threshold,
    "amax": _from_equal(1),
    "amin": _from_equal(-1),
    "max": _from_extreme(1),
    "min": _from_extreme(-1),
    "max_pool2d_with_indices": _from_windows(2),
    "max_pool3d_with_indices": _from_windows(3),
}
