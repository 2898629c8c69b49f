"""Functions whose parameters torch takes as plain ints, composed here of functions that keep sizes symbolic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.nn import functional

from lowering.ops import fourier, views, windows
from lowering.ops.images import resizing


def list_lower(row: Any, col: Any, offset: Any = 0, *, dtype: torch.dtype = torch.int64, device: Any = None) -> torch.Tensor:
    """Return torch.tril_indices, each from its number: one of a trapezoid, whose rows grow by an element, or of the full rows below it."""
    numbers = torch.arange(_count_lower(row, col, offset), device=device)
    first = torch.sym_min(torch.sym_max(offset, 0) + 1, col)  # elements of the first row that has any
    growing = col - first  # rows that are not full
    double = 2 * first - 1
    rows = ((8 * numbers + double * double).to(torch.float64).sqrt() - double).div(2).to(torch.int64)
    rows = rows - (rows * (rows + double) // 2 > numbers).to(torch.int64)  # where the root is rounded
    rows = rows + ((rows + 1) * (rows + 1 + double) // 2 <= numbers).to(torch.int64)
    columns = numbers - rows * (rows + double) // 2
    below, width = numbers - growing * (growing + double) // 2, torch.sym_max(col, 1)
    is_full = below >= 0
    rows, columns = torch.where(is_full, growing + below // width, rows), torch.where(is_full, below % width, columns)
    return torch.stack([rows + torch.sym_max(-offset, 0), columns]).to(dtype)


def list_upper(row: Any, col: Any, offset: Any = 0, *, dtype: torch.dtype = torch.int64, device: Any = None) -> torch.Tensor:
    """Return torch.triu_indices: the lower ones of the matrix from its other end."""
    lower = list_lower(row, col, col - row - offset, device=device)
    return torch.stack([row - 1 - lower[0], col - 1 - lower[1]]).flip(1).to(dtype)


def _count_lower(row: Any, col: Any, offset: Any) -> Any:
    """Return how many elements of a matrix are on the diagonal at `offset` or below it."""
    return _add_up(row + offset) - _add_up(offset) - _add_up(row + offset - col) + _add_up(offset - col)


def _add_up(last: Any) -> Any:
    """Return the sum of the numbers from 1 to `last`, 0 if that is negative."""
    count = torch.sym_max(last, 0)
    return count * (count + 1) // 2


def _one_hot(tensor: torch.Tensor, num_classes: Any) -> torch.Tensor:
    """Return torch.nn.functional.one_hot. torch's own checks data against the number of classes."""
    return (tensor.unsqueeze(-1) == torch.arange(num_classes, device=tensor.device)).to(torch.int64)


def _unfold(tensor: torch.Tensor, dimension: int, size: Any, step: Any) -> torch.Tensor:
    """Return torch.Tensor.unfold."""
    dim = dimension % tensor.dim()
    count = (tensor.shape[dim] - size) // step + 1
    places = torch.arange(count, device=tensor.device).unsqueeze(1) * step + torch.arange(size, device=tensor.device)
    windows = tensor.index_select(dim, places.reshape(-1))
    return windows.reshape([*tensor.shape[:dim], count, size, *tensor.shape[dim + 1 :]]).movedim(dim + 1, -1)


def _repeat_interleave(tensor: torch.Tensor, repeats: Any, dim: int | None = None, *, output_size: Any = None) -> torch.Tensor:
    """Return torch.repeat_interleave of a symbolic number of repeats."""
    if isinstance(repeats, torch.Tensor):
        return torch.repeat_interleave(tensor, repeats, dim, output_size=output_size)
    tensor, dim = (tensor.reshape(-1), 0) if dim is None else (tensor, dim % tensor.dim())
    shape = list(tensor.shape)
    repeated = tensor.unsqueeze(dim + 1).expand([*shape[: dim + 1], repeats, *shape[dim + 1 :]])
    return repeated.reshape([*shape[:dim], shape[dim] * repeats, *shape[dim + 1 :]])


def _istft(input: torch.Tensor, n_fft: int, hop_length: int | None = None, win_length: int | None = None,  # noqa: A002 - torch's name
           window: torch.Tensor | None = None, center: bool = True, normalized: bool = False, onesided: bool | None = None,
           length: Any = None, return_complex: bool = False) -> torch.Tensor:  # fmt: skip
    """Return torch.istft of a symbolic length, without the check on data that the windows leave no gap."""
    hop, width = hop_length or n_fft // 4, win_length or n_fft
    window = torch.ones(width, device=input.device) if window is None else window
    window = functional.pad(window, ((n_fft - width) // 2, n_fft - width - (n_fft - width) // 2))
    norm, spectrum = "ortho" if normalized else "backward", input.mT
    if return_complex:
        frames = torch.fft.ifft(spectrum, norm=norm)
    else:
        frames = torch.fft.irfft(spectrum if onesided is not False else spectrum[..., : n_fft // 2 + 1], n_fft, norm=norm)
    total = n_fft + hop * (spectrum.shape[-2] - 1)
    signal = _add_frames(frames * window, total, hop)
    envelope = _add_frames((window * window).expand(spectrum.shape[-2], n_fft), total, hop)
    start = n_fft // 2 if center else 0
    kept = torch.sym_min(length, total - start)
    return functional.pad((signal / envelope).narrow(-1, start, kept), (0, length - kept))


def _add_frames(frames: torch.Tensor, total: Any, hop: int) -> torch.Tensor:
    """Return the sum of frames [..., count, n] that begin `hop` elements apart and may overlap, as [..., total]."""
    summed: torch.Tensor = torch.ops.aten.unfold_backward(frames, [*frames.shape[:-2], total], -1, frames.shape[-1], hop)
    return summed


def _interpolate(input: torch.Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest",  # noqa: A002 - torch's name
                 align_corners: bool | None = None, recompute_scale_factor: bool | None = None, antialias: bool = False) -> torch.Tensor:
    """Return torch.nn.functional.interpolate. Scale factors that are quotients of sizes stay symbolic; torch takes floats."""
    factors = list(scale_factor) if isinstance(scale_factor, list | tuple) else [scale_factor] * (input.dim() - 2)
    if any(isinstance(factor, torch.SymFloat) for factor in factors):
        if recompute_scale_factor:
            size, scale_factor = resizing.scale_sizes(input.shape[2:], factors), None
        elif (resized := resizing.resize_by(input, factors, mode, bool(align_corners), antialias)) is not None:
            return resized
    recomputes = recompute_scale_factor if size is None else None
    return functional.interpolate(input, size, scale_factor, mode, align_corners, recomputes, antialias)


BY_SIZE: dict[Any, Callable[..., Any]] = {
    torch.tril_indices: list_lower, torch.triu_indices: list_upper, torch.hann_window: windows.hann,
    torch.hamming_window: windows.hamming, torch.blackman_window: windows.blackman, torch.bartlett_window: windows.bartlett,
    torch.kaiser_window: windows.kaiser, torch.fft.fftfreq: fourier.frequencies, torch.fft.rfftfreq: fourier.real_frequencies,
    functional.one_hot: _one_hot, torch.Tensor.unfold: _unfold,
    torch.repeat_interleave: _repeat_interleave, torch.Tensor.repeat_interleave: _repeat_interleave,
    torch.istft: _istft, torch.Tensor.istft: _istft, functional.interpolate: _interpolate,
    torch.diagonal: views.view_diagonal, torch.Tensor.diagonal: views.view_diagonal,
    torch.diag: views.diag, torch.Tensor.diag: views.diag, torch.diag_embed: views.diag_embed, torch.Tensor.diag_embed: views.diag_embed,
    torch.diagonal_scatter: views.diagonal_scatter, torch.Tensor.diagonal_scatter: views.diagonal_scatter,
}  # fmt: skip
