"""Comparison of two tensors: dtype, shape, placement of NaN and infinities, and values within a tolerance."""

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
    "float8_e4m3fnuz": Tolerance(1e-1, 1.25e-1),
    "float8_e5m2fnuz": Tolerance(2e-1, 2.5e-1),
    "complex64": Tolerance(1e-5, 1e-4),
    "complex128": Tolerance(1e-11, 1e-10),
}
EXACT = Tolerance(0.0, 0.0)

_UNITS = 16  # in the last place, that sums of some hundred terms and functions are off by
_TYPICAL = 8  # medians that the size of a typical element may be: the few that are larger do not set the limit of the others
_SAMPLED = 1 << 16  # elements that the median is taken of

_CHUNK = 1 << 17  # elements widened to float64 at a time: some ten temporaries of a megabyte, which a cache holds


@dataclass(frozen=True)
class Comparison:
    """The comparison of `got` with `want`. wrong: the first difference, None if they agree.

    max_abs and max_rel run over the elements that are finite in both; max_rel is |got - want| / max(|want|, atol / rtol), so that noise
    around zero does not count, and for exact dtypes |got - want| / max(|want|, 1). differing: how many of `elements` are outside the
    tolerance; worst: index of the one that exceeds it most. held_to: the dtype whose tolerance was taken. finite: how many elements are
    finite in both, and so say something about the computation.
    """

    elements: int = 0
    wrong: Literal["dtype", "shape", "non-finite", "values"] | None = None
    detail: str = ""
    max_abs: float = 0.0
    max_rel: float = 0.0
    differing: int = 0
    worst: tuple[int, ...] | None = None
    held_to: str = ""
    finite: int = 0

    @property
    def agrees(self) -> bool:
        return self.wrong is None


def find_tolerance(dtype: torch.dtype, overrides: Mapping[str, Tolerance], want: torch.Tensor,
                   narrowest: torch.dtype | None = None) -> Tolerance:
    """Return the override for the dtype, as it stands.

    Else that of the dtype that decides (see `choose_deciding`), its default scaled to the size of `want`.
    """
    own, word = types.find_row(dtype).name, types.find_row(choose_deciding(dtype, narrowest)).name
    for name in (own, word):
        if name in overrides:
            return overrides[name]
    return scale_tolerance(TOLERANCES.get(word, EXACT), want)


def choose_deciding(dtype: torch.dtype, narrowest: torch.dtype | None) -> torch.dtype:
    """Return the dtype whose rounding a result of `dtype` carries. narrowest: the narrowest float on the way to the result."""
    is_inexact = dtype.is_floating_point or dtype.is_complex
    return narrowest if is_inexact and narrowest is not None and precision(narrowest) > precision(dtype) else dtype


def list_weakened(overrides: Mapping[str, Tolerance]) -> dict[str, str]:
    """Return the overrides that allow more than the default of their dtype, each with its reason."""
    defaults = {word: TOLERANCES.get(word, EXACT) for word in overrides}
    return {word: tolerance.reason for word, tolerance in overrides.items()
            if tolerance.atol > defaults[word].atol or tolerance.rtol > defaults[word].rtol}


def precision(dtype: torch.dtype) -> float:
    """Return the rounding step of a floating or complex dtype at 1."""
    return torch.finfo(dtype).eps


def scale_tolerance(tolerance: Tolerance, want: torch.Tensor) -> Tolerance:
    """Return `atol` times the size of a typical element of `want`, clamped to [1e-3, 1]: small results get a small tolerance.

    That size is the root mean square of the finite elements, and at most some medians: one large element makes no room for the others.
    """
    if tolerance.atol == 0:
        return tolerance
    total, count = 0.0, 0
    for (part,) in _split(want):
        finite = part[torch.isfinite(part)]
        total, count = total + float(finite.square().sum()), count + finite.numel()
    size = min(math.sqrt(total / count), _TYPICAL * _find_median(want)) if total else 1.0
    return Tolerance(tolerance.atol * min(1.0, max(size, 1e-3)), tolerance.rtol, tolerance.reason)


def _find_median(tensor: torch.Tensor) -> float:
    """Return the median size of the elements that are finite and not 0, of some elements at equal distances; 0 when there is none."""
    flat = tensor.detach().abs().reshape(-1)
    flat = flat[:: -(-flat.numel() // _SAMPLED)].to("cpu", torch.float64)
    sizes = flat[torch.isfinite(flat) & (flat > 0)]
    return float(sizes.median()) if sizes.numel() else 0.0


def are_equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Return whether two tensors of one dtype have equal elements, where NaN equals NaN."""
    return torch.equal(torch.nan_to_num(widen(one)), torch.nan_to_num(widen(other)))


def widen(tensor: torch.Tensor) -> torch.Tensor:
    """Return float8 as float32, because torch compares no float8, and other tensors as they are."""
    return tensor.float() if tensor.is_floating_point() and tensor.element_size() == 1 else tensor


def compare(got: torch.Tensor, want: torch.Tensor, tolerance: Tolerance) -> Comparison:
    """Compare `got` with `want`: |got - want| <= atol + rtol * |want|. A tolerance of 0 compares exactly."""
    if got.dtype is not want.dtype:
        detail = f"is {types.dtype_name(got.dtype)}, eager gives {types.dtype_name(want.dtype)}"
        return Comparison(want.numel(), "dtype", detail, math.inf, math.inf)
    if got.shape != want.shape:
        return Comparison(want.numel(), "shape", f"is {list(got.shape)}, eager gives {list(want.shape)}", math.inf, math.inf)
    floor = tolerance.atol / tolerance.rtol if tolerance.rtol else 1.0
    max_abs = max_rel = excess = 0.0
    differing, misplaced, worst, first_misplaced, start, compared = 0, 0, None, None, 0, 0
    exact = tolerance.atol == 0 and tolerance.rtol == 0
    originals = zip(_split_flat(got), _split_flat(want), strict=True)
    for (a, b), (raw_a, raw_b) in zip(_split(got, want), originals, strict=True):
        error, size = (a - b).abs_(), b.abs()
        if math.isfinite(float(error.sum())):  # so that each element is, as nearly always
            compared += error.numel()
            bad = raw_a != raw_b if exact else error > tolerance.rtol * size + tolerance.atol
        else:
            finite = torch.isfinite(a) & torch.isfinite(b)
            compared += int(finite.sum())
            elsewhere = ~finite & ~((a == b) | (torch.isnan(a) & torch.isnan(b)))
            if count := int(elsewhere.sum()):
                misplaced += count
                first_misplaced = first_misplaced if first_misplaced is not None else start + int(elsewhere.int().argmax())
            error, size = torch.where(finite, error, 0.0), torch.where(finite, size, 0.0)
            bad = finite & (raw_a != raw_b) if exact else error > tolerance.rtol * size + tolerance.atol
        if wrong := int(bad.sum()):
            differing += wrong
            over = error - (tolerance.rtol * size + tolerance.atol)
            if worst is None or float(over.max()) > excess:
                position = int((bad * (over + 1)).argmax()) if exact else int(over.argmax())
                worst, excess = start + position, float(over.max())
        if error.numel():
            max_abs = max(max_abs, float(error.max()))
            max_rel = max(max_rel, float((error / size.clamp_min(floor if floor > 0 else 1e-300)).max()))
        start += a.numel()
    if misplaced:
        index = _index(want, first_misplaced or 0)
        detail = (f"{misplaced} of {want.numel()} elements are NaN or infinite in one only, first at {list(index)}: "
                  f"{_describe_values(got, want, index)}")
        return Comparison(want.numel(), "non-finite", detail, max_abs, max_rel, differing + misplaced, index, finite=compared)
    if worst is None:
        return Comparison(want.numel(), None, "", max_abs, max_rel, finite=compared)
    index = _index(want, worst)
    detail = (f"{differing} of {want.numel()} elements differ (max abs {max_abs:.3g}, max rel {max_rel:.3g}; "
              f"allowed {tolerance.atol:.3g} + {tolerance.rtol:.3g}*|eager|), worst at {list(index)}: {_describe_values(got, want, index)}")
    return Comparison(want.numel(), "values", detail, max_abs, max_rel, differing, index, finite=compared)


def is_nearer(got: torch.Tensor, want: torch.Tensor, reference: torch.Tensor, spread: torch.Tensor | None = None) -> bool:
    """Return whether no element of `got` is further from `reference` than it may be (see `count_further`)."""
    return count_further(got, want, reference, spread) == 0


def count_further(got: torch.Tensor, want: torch.Tensor, reference: torch.Tensor, spread: torch.Tensor | None = None) -> int:
    """Count the elements of `got` that are more than twice as far from `reference` (computed in float64) as the same element of `want`.

    In float32 and wider, an element that is right to some units in the last place passes too: that of `want` may be exact by chance.
    spread: how far honest rounding takes each element, if that is known; it is allowed too. No element makes room for another.
    """
    spreads = spread if spread is not None else torch.zeros_like(reference)
    step = precision(got.dtype)
    units = _UNITS * step if step <= precision(torch.float32) else 0.0
    further = 0
    for exact, one, other, room in _split(reference, got, want, spreads):
        finite = torch.isfinite(exact) & torch.isfinite(one) & torch.isfinite(other)
        bound = torch.maximum(torch.maximum(2 * (other - exact).abs(), room.abs()), units * exact.abs())
        further += int((finite & ((one - exact).abs() > bound)).sum())
    return further


def _split_flat(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    flat = tensor.detach().contiguous().reshape(-1)
    if flat.is_complex():
        flat = torch.view_as_real(flat.resolve_conj()).reshape(-1)
    return (flat[start : start + _CHUNK] for start in range(0, flat.numel(), _CHUNK))


def _split(*tensors: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """Split tensors of one shape into equal flat pieces, in float64; a complex number becomes its two parts."""
    for pieces in zip(*map(_split_flat, tensors), strict=True):
        yield tuple(piece.to("cpu", torch.float64) for piece in pieces)


def _index(tensor: torch.Tensor, flat: int) -> tuple[int, ...]:
    position = flat // 2 if tensor.is_complex() else flat
    return tuple(int(step) for step in torch.unravel_index(torch.tensor(position), tensor.shape))


def _describe_values(got: torch.Tensor, want: torch.Tensor, index: tuple[int, ...]) -> str:
    def read(tensor: torch.Tensor) -> Any:
        value = tensor[index].item()
        return f"{value:.7g}" if isinstance(value, float) else value

    return f"got {read(got)}, eager gives {read(want)}"
