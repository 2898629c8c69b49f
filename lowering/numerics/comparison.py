"""Whether two tensors are the same result: dtype, shape, placement of NaN and infinities, and values within a tolerance."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from lowering import types
from lowering.model import Tolerance

# By dtype of the result; what has no row (integers, bool) is exact. `atol` is for results of size one: see `scaled`.
TOLERANCES: Mapping[str, Tolerance] = {
    "float64": Tolerance(1e-11, 1e-10),
    "float32": Tolerance(1e-5, 1e-4),
    "float16": Tolerance(2e-3, 5e-3),
    "bfloat16": Tolerance(1e-2, 2e-2),
    "float8_e4m3fn": Tolerance(1e-1, 1.25e-1),
    "float8_e5m2": Tolerance(2e-1, 2.5e-1),
    "complex64": Tolerance(1e-5, 1e-4),
    "complex128": Tolerance(1e-11, 1e-10),
}
EXACT = Tolerance(0.0, 0.0)
# Of the largest element, by dtype. ResNet-50's logits, of some 90, are off by 11 of float32's through XLA and by 6 in eager mode.
ROUNDINGS = {dtype: 16 * torch.finfo(dtype).eps for dtype in (torch.float32, torch.complex64, torch.float64, torch.complex128)}

_CHUNK = 1 << 17  # elements widened to float64 at a time: some ten temporaries of a megabyte, which a cache holds


@dataclass(frozen=True)
class Comparison:
    """How `got` compares with `want`. wrong: what differs first, None when they agree.

    max_abs and max_rel run over the elements that are finite in both; max_rel is |got - want| / max(|want|, atol / rtol), so that noise
    around zero does not count, and for exact dtypes |got - want| / max(|want|, 1). differing: how many of `elements` are outside the
    tolerance; worst: index of the one that exceeds it most.
    """

    elements: int = 0
    wrong: Literal["dtype", "shape", "non-finite", "values"] | None = None
    detail: str = ""
    max_abs: float = 0.0
    max_rel: float = 0.0
    differing: int = 0
    worst: tuple[int, ...] | None = None

    @property
    def agrees(self) -> bool:
        return self.wrong is None


def tolerance_of(dtype: torch.dtype, overrides: Mapping[str, Tolerance], want: torch.Tensor) -> Tolerance:
    """The override for the dtype, as it stands; else the default, its `atol` scaled to the size of `want`."""
    word = types.of(dtype).name
    return overrides[word] if word in overrides else scaled(TOLERANCES.get(word, EXACT), want)


def scaled(tolerance: Tolerance, want: torch.Tensor) -> Tolerance:
    """`atol` times the root mean square of `want` where finite, kept in [1e-3, 1]: small results are held to theirs."""
    if tolerance.atol == 0:
        return tolerance
    total, count = 0.0, 0
    for (part,) in _chunks(want):
        finite = part[torch.isfinite(part)]
        total, count = total + float(finite.square().sum()), count + finite.numel()
    size = math.sqrt(total / count) if count else 1.0
    return Tolerance(tolerance.atol * min(1.0, max(size, 1e-3)), tolerance.rtol, tolerance.reason)


def compare(got: torch.Tensor, want: torch.Tensor, tolerance: Tolerance) -> Comparison:
    """`got` against `want`: |got - want| <= atol + rtol * |want|, integers compared exactly where the tolerance is 0."""
    if got.dtype is not want.dtype:
        detail = f"is {types.name(got.dtype)}, eager gives {types.name(want.dtype)}"
        return Comparison(want.numel(), "dtype", detail, math.inf, math.inf)
    if got.shape != want.shape:
        return Comparison(want.numel(), "shape", f"is {list(got.shape)}, eager gives {list(want.shape)}", math.inf, math.inf)
    floor = tolerance.atol / tolerance.rtol if tolerance.rtol else 1.0
    max_abs = max_rel = excess = 0.0
    differing, misplaced, worst, first_misplaced, start = 0, 0, None, None, 0
    exact = tolerance.atol == 0 and tolerance.rtol == 0
    originals = zip(_parts(got), _parts(want), strict=True)
    for (a, b), (raw_a, raw_b) in zip(_chunks(got, want), originals, strict=True):
        finite = torch.isfinite(a) & torch.isfinite(b)
        elsewhere = ~finite & ~((a == b) | (torch.isnan(a) & torch.isnan(b)))
        if count := int(elsewhere.sum()):
            misplaced += count
            first_misplaced = first_misplaced if first_misplaced is not None else start + int(elsewhere.int().argmax())
        error = torch.where(finite, (a - b).abs(), 0.0)
        size = torch.where(finite, b.abs(), 0.0)
        over = error - (tolerance.atol + tolerance.rtol * size)
        bad = finite & (raw_a != raw_b) if exact else over > 0
        differing += int(bad.sum())
        if bad.any() and (worst is None or float(over.max()) > excess):
            position = int((bad * (over + 1)).argmax()) if exact else int(over.argmax())
            worst, excess = start + position, float(over.max())
        if error.numel():
            max_abs = max(max_abs, float(error.max()))
            max_rel = max(max_rel, float((error / size.clamp_min(floor if floor > 0 else 1e-300)).max()))
        start += a.numel()
    if misplaced:
        index = _index(want, first_misplaced or 0)
        detail = (f"{misplaced} of {want.numel()} elements are NaN or infinite in one only, first at {list(index)}: "
                  f"{_values(got, want, index)}")
        return Comparison(want.numel(), "non-finite", detail, max_abs, max_rel, differing + misplaced, index)
    if worst is None:
        return Comparison(want.numel(), None, "", max_abs, max_rel)
    index = _index(want, worst)
    detail = (f"{differing} of {want.numel()} elements differ (max abs {max_abs:.3g}, max rel {max_rel:.3g}; "
              f"allowed {tolerance.atol:.3g} + {tolerance.rtol:.3g}*|eager|), worst at {list(index)}: {_values(got, want, index)}")
    return Comparison(want.numel(), "values", detail, max_abs, max_rel, differing, index)


def nearer(got: torch.Tensor, want: torch.Tensor, reference: torch.Tensor) -> bool:
    """Whether `got` is no further from `reference` (computed in float64) than twice what `want` is, at worst and in the mean.

    Or as far as a few roundings of the largest element take it: where terms of that size cancel, a sum in another order is off by as much,
    and eager's own order may be the luckier one.
    """
    errors, largest = [[0.0, 0.0], [0.0, 0.0]], 0.0
    for exact, *parts in _chunks(reference, got, want):
        for error, part in zip(errors, parts, strict=True):
            finite = torch.isfinite(exact) & torch.isfinite(part)
            off = torch.where(finite, (part - exact).abs(), 0.0)
            error[0] = max(error[0], float(off.max()))
            error[1] += float(off.square().sum())
        largest = max(largest, float(torch.where(torch.isfinite(exact), exact.abs(), 0.0).max()))
    (got_max, got_sum), (want_max, want_sum) = errors
    rounding = ROUNDINGS.get(want.dtype, 0) * largest
    return got_max <= rounding or (got_max <= 2 * want_max and got_sum <= 4 * want_sum)


def _parts(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    flat = tensor.detach().contiguous().reshape(-1)
    if flat.is_complex():
        flat = torch.view_as_real(flat.resolve_conj()).reshape(-1)
    return (flat[start : start + _CHUNK] for start in range(0, flat.numel(), _CHUNK))


def _chunks(*tensors: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Equal flat pieces of tensors of one shape, in float64; a complex number is its two parts."""
    for pieces in zip(*map(_parts, tensors), strict=True):
        yield tuple(piece.to("cpu", torch.float64) for piece in pieces)


def _index(tensor: torch.Tensor, flat: int) -> tuple[int, ...]:
    position = flat // 2 if tensor.is_complex() else flat
    return tuple(int(step) for step in torch.unravel_index(torch.tensor(position), tensor.shape))


def _values(got: torch.Tensor, want: torch.Tensor, index: tuple[int, ...]) -> str:
    def shown(tensor: torch.Tensor) -> Any:
        value = tensor[index].item()
        return f"{value:.7g}" if isinstance(value, float) else value

    return f"got {shown(got)}, eager gives {shown(want)}"
