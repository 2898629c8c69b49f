"""Fourier transforms of another length than the dim. torch decides by sizes whether it pads or cuts, which would narrow ranges."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.fx.experimental.symbolic_shapes import statically_known_true

from lowering.ops import iteration


def _resize(tensor: torch.Tensor, dim: int, size: Any) -> torch.Tensor:
    """Cut a dim to `size`, or pad it with zeros at its end."""
    length = tensor.shape[dim]
    if size == -1 or statically_known_true(length == size):
        return tensor
    kept = iteration.least(length, size)
    after = (tensor.dim() - 1 - dim % tensor.dim()) * 2
    return torch.constant_pad_nd(tensor.narrow(dim, 0, kept), [0] * (after + 1) + [size - kept])


def _transform_line(function: Callable[..., torch.Tensor], halves: bool) -> Callable[..., torch.Tensor]:
    """Return a transform of one dim. halves: it takes the first half of a symmetric dim."""

    def transform(input: torch.Tensor, n: Any = None, dim: int = -1, norm: str | None = None) -> torch.Tensor:  # noqa: A002 - torch's name
        resized = input if n is None else _resize(input, dim, n // 2 + 1 if halves else n)
        return function(resized, n, dim, norm)

    return transform


def _transform_box(function: Callable[..., torch.Tensor], halves: bool, default: Sequence[int] | None) -> Callable[..., torch.Tensor]:
    """Return a transform of several dims. halves: it takes the first half of the last one; default: the dims if none are given."""

    def transform(input: torch.Tensor, s: Any = None, dim: Any = default, norm: str | None = None) -> torch.Tensor:  # noqa: A002 - torch's name
        if s is None:
            return function(input, s, dim, norm)
        dims = [dim] if isinstance(dim, int) else list(range(-len(s), 0) if dim is None else dim)
        resized = input
        for place, size in zip(dims, s, strict=True):
            resized = _resize(resized, place, size // 2 + 1 if halves and place == dims[-1] and size != -1 else size)
        return function(resized, s, dim, norm)

    return transform


COMPOSED: dict[Any, Callable[..., Any]] = {
    **{function: _transform_line(function, halves) for function, halves in (
        (torch.fft.fft, False), (torch.fft.ifft, False), (torch.fft.rfft, False), (torch.fft.ihfft, False),
        (torch.fft.irfft, True), (torch.fft.hfft, True))},
    **{function: _transform_box(function, halves, default) for function, halves, default in (
        (torch.fft.fft2, False, (-2, -1)), (torch.fft.ifft2, False, (-2, -1)), (torch.fft.rfft2, False, (-2, -1)),
        (torch.fft.irfft2, True, (-2, -1)), (torch.fft.fftn, False, None), (torch.fft.ifftn, False, None),
        (torch.fft.rfftn, False, None), (torch.fft.irfftn, True, None))},
}  # fmt: skip
