"""The effect of rounding in each op's own dtype on a result: eager runs again, and every op errs by about as much as it may round."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import tree_leaves, tree_map

from lowering import types
from lowering.numerics import comparison, noise
from lowering.numerics.judging.ancestry import MOVING, Making
from lowering.numerics.running.watching import Watching
from lowering.signature import Result

HALVES = (torch.bfloat16, torch.float16)
_FLOATS = (*HALVES, torch.float32, torch.float64, torch.complex64, torch.complex128)
_WIDER = dict.fromkeys(HALVES, torch.float32)
# They select or move elements, or change signs.
_EXACT = MOVING | frozenset((
    "abs", "neg", "relu", "maximum", "minimum", "max", "min", "amax", "amin", "clamp", "clamp_min", "clamp_max", "sort", "topk", "sign",
    "floor", "ceil", "round", "trunc", "threshold", "hardtanh", "max_pool2d_with_indices", "max_pool3d_with_indices", "copy_", "fill_",
    "zero_", "masked_fill_", "new_zeros", "new_ones", "new_full", "arange", "split_with_sizes", "threshold_backward",
))  # fmt: skip
# Series and rational approximations of these differ by many units in the last place of float32, from one library to the next.
_ROUGH = frozenset((
    "lgamma", "mvlgamma", "digamma", "polygamma", "igamma", "igammac", "erfinv", "erfc", "i0", "logit", "tan", "sinh", "cosh", "asin",
    "acos", "asinh", "acosh", "atanh", "pow", "expm1", "log1p",
))  # fmt: skip
_ROUGHNESS = 16
_UNITS = 8  # in the last place, by which other functions may differ
_LEAST = 16  # elements of a slice that is judged by most of them
_SHARE = 0.75  # of a slice's elements that have to be off by less than the limit
# How many standard deviations those may be off. A perturbed result is off by twice what rounding to nearest gives; functions of float32 are
# computed to several units in the last place, those of halves in float32.
LIMITS = {torch.bfloat16: 1.5, torch.float16: 1.5, torch.float32: 8.0, torch.complex64: 8.0}


class Perturbed(Watching):
    """Inside, every op that rounds errs: its floating operands by half a rounding step of the dtype of its result, its result by one.

    An op on halves is computed in float32 between, as sums of halves are. Ops in place err in their result alone. Results that are finite
    without the errors stay so, unless `breaks`.
    """

    def __init__(self, seed: int, breaks: bool = False) -> None:
        super().__init__()
        self._noise, self.breaks = noise.Noise(seed), breaks

    def watch(self, op: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        with _enable_mkldnn(True):  # its products of halves take a tenth of the time
            exact = op(*args, **kwargs)
        if not _rounds(op, exact, args):
            return exact
        operands = [value for value in tree_leaves([args, kwargs]) if _is_float(value)]
        made = [leaf for leaf in tree_leaves(exact) if _is_float(leaf)]
        if all(map(noise.is_whole, operands)) and all(map(noise.is_whole, made)):
            return exact
        if op._schema.is_mutable:
            for leaf in made:
                leaf.copy_(self._err(leaf, leaf))
            return exact
        name = op.overloadpacket.__name__
        steps = _ROUGHNESS if name in _ROUGH or name.startswith("special_") else _UNITS if self.breaks else 1
        return tree_map(partial(self._err, steps=steps), exact, self._shift(op, args, kwargs, exact))

    def _shift(self, op: Any, args: Sequence[Any], kwargs: Mapping[str, Any], exact: Any) -> Any:
        """Return the results of an op on perturbed operands, or on its own operands if it takes no wider ones."""
        step = max(torch.finfo(leaf.dtype).eps for leaf in tree_leaves(exact) if _is_float(leaf))

        def shift(value: Any) -> Any:
            if _is_float(value):
                wide = value.to(_WIDER.get(value.dtype, value.dtype))
                return self._scale(wide, step / 2)
            return _WIDER.get(value, value) if isinstance(value, torch.dtype) else value

        try:
            return op(*tree_map(shift, tuple(args)), **tree_map(shift, dict(kwargs)))
        except (RuntimeError, NotImplementedError):
            return exact

    def _err(self, exact: Any, off: Any, steps: int = 1) -> Any:
        if not _is_float(exact) or exact.shape != off.shape:
            return exact
        wide = off.to(_WIDER.get(exact.dtype, exact.dtype))
        step = torch.finfo(exact.dtype).eps * (1 if exact.dtype in HALVES else steps)
        erred = self._scale(wide, step).to(exact.dtype)
        if _is_all_finite(exact) and (self.breaks or _is_all_finite(erred)):
            return erred
        return torch.where(torch.isfinite(exact) & (torch.isfinite(erred) | self.breaks), erred, exact)

    def _scale(self, value: torch.Tensor, step: float) -> torch.Tensor:
        """Return a tensor off by up to `step`, in which the largest float, such as that of a mask, stays finite."""
        off = value * self._noise.draw(value).mul_(step).add_(1)
        return off if _is_all_finite(off) else torch.where(torch.isfinite(off), off, value)


def square_distances(run: Callable[[], Sequence[torch.Tensor]], want: Sequence[torch.Tensor], seed: int) -> list[torch.Tensor]:
    """Return the squared distance of each element of a perturbed run from `want`, in float64. A complex number is two elements."""
    return [measure_distances(one, other).square() if one.shape == other.shape else torch.zeros_like(split(other))
            for one, other in zip(sample(run, seed), want, strict=True)]


def find_broken(run: Callable[[], Sequence[torch.Tensor]], want: Sequence[torch.Tensor], seed: int) -> list[torch.Tensor]:
    """Return which elements of a perturbed run are NaN or infinite, such as where an error leads to a pole or out of a domain."""
    found = zip(sample(run, seed, breaks=True), want, strict=True)
    return [~torch.isfinite(one if one.is_complex() else one.double()) & (one.shape == other.shape) for one, other in found]


def sample(run: Callable[[], Sequence[torch.Tensor]], seed: int, breaks: bool = False) -> Sequence[torch.Tensor]:
    """Return the results of a perturbed run."""
    # fused ops round less often, and oneDNN runs whole recurrent layers
    with Perturbed(seed, breaks), sdpa_kernel(SDPBackend.MATH), _enable_mkldnn(False):
        return run()


def find_halves(results: Sequence[Result], makings: Sequence[Making]) -> list[int]:
    """Return the indices of the results that carry the rounding of halves."""
    known = (types.DTYPES.get(result.dtype or "") for result in results)  # Python's numbers have none
    return [index for index, (dtype, making) in enumerate(zip((found and found.torch for found in known), makings, strict=True))
            if dtype is not None and comparison.choose_deciding(dtype, making.narrowest) in HALVES]


@contextmanager
def _enable_mkldnn(is_enabled: bool) -> Iterator[None]:
    """Use oneDNN inside the block or not. (`torch.backends.mkldnn.flags` warns of GPUs.)"""
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(is_enabled)
    try:
        yield
    finally:
        torch._C._set_mkldnn_enabled(before)


def measure_distances(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return the distance of each element in float64, 0 where it is not finite. A complex number is two elements."""
    return torch.nan_to_num((split(one) - split(other)).abs(), 0.0, 0.0, 0.0)


def estimate_own_rounding(want: torch.Tensor) -> torch.Tensor:
    """Return the standard deviation of each element if only the element itself is rounded. XLA takes subnormals for zeros."""
    held = torch.finfo(want.dtype)
    return held.eps / 2 * torch.nan_to_num(split(want).abs(), 0.0, 0.0, 0.0) + (0.0 if want.dtype is torch.float16 else held.tiny)


def estimate_deviation(sums: torch.Tensor, count: int, want: torch.Tensor) -> torch.Tensor:
    """Return the standard deviation of each element over `count` runs: its own or, where larger, that of its slices.

    A slice holds the elements at one index of one dim and counts by its median; of the slices of an element the least counts. So neither a
    few large elements make room for others, nor does an element that happened to be off by little in all runs get too little.
    """
    return torch.maximum(pool_distances((sums / count).sqrt()), estimate_own_rounding(want))


def pool_distances(distances: torch.Tensor) -> torch.Tensor:
    """Return the distance of each element over some runs, or that of its slices if larger: the least of the medians of its slices."""
    shared = [rows.median(1)[0].reshape([-1 if position == dim else 1 for position in range(distances.dim())])
              for rows, dim in _iterate_slices(distances)]
    return torch.maximum(distances, functools.reduce(torch.minimum, shared)) if shared else distances


def exceeds(error: torch.Tensor, deviation: torch.Tensor, limit: float) -> bool:
    """Return whether `describe_excess` may have something to describe."""
    ratio = _divide(error, deviation)
    return error.numel() >= _LEAST and any(bool(_find_rows_above(rows, limit).any()) for rows, _ in _iterate_rows(ratio))


def describe_excess(error: torch.Tensor, deviation: torch.Tensor, limit: float, exact: torch.Tensor | None = None) -> str:
    """Describe the first slice, or the whole, of which more than a quarter of the elements are off by more than `limit` deviations.

    Returns an empty text if there is none. exact: the result in float64, if known, by which copies are found: a slice of copies of a few
    elements is no more evidence than these few.
    """
    if error.numel() < _LEAST:
        return ""
    ratio = _divide(error, deviation)
    values = ratio if exact is None else split(exact).float()  # copies may differ by an order of sums in float64
    found, place = limit, ""
    for (rows, dim), (elements, _) in zip(_iterate_rows(ratio), _iterate_rows(values), strict=True):
        most, index = _find_worst(rows, elements, limit, exact is not None)
        if most > found:
            found, place = most, "all elements" if dim is None else f"those at {index} of dim {dim}"
    return f"a quarter of {place} is off by at least {found:.1f} times the deviation that rounding causes" if place else ""


def _divide(error: torch.Tensor, deviation: torch.Tensor) -> torch.Tensor:
    return torch.where(error > 0, error / deviation.clamp_min(1e-300), 0.0)


def _find_worst(rows: torch.Tensor, values: torch.Tensor, limit: float, has_values: bool) -> tuple[float, int]:
    """Return the bound of most elements of the worst row, if it is above `limit`, and the row's index; otherwise (0, 0).

    Rows of few distinct values do not count.
    """
    above = _find_rows_above(rows, limit)
    for index in above.nonzero().flatten().tolist() if has_values else ():
        above[index] = values[index].unique().numel() >= _LEAST
    if not above.any():
        return 0.0, 0
    bounds = rows[above].kthvalue(_count_most(rows), dim=1)[0]
    return float(bounds.max()), int(above.nonzero()[bounds.argmax()])


def _find_rows_above(rows: torch.Tensor, limit: float) -> torch.Tensor:
    """Return which rows have a bound of most elements above `limit`. To count is ten times faster than to find the bound."""
    return (rows <= limit).sum(1) < _count_most(rows)


def _count_most(rows: torch.Tensor) -> int:
    return max(1, int(_SHARE * rows.shape[1]))


def _iterate_rows(values: torch.Tensor) -> Iterator[tuple[torch.Tensor, int | None]]:
    """Iterate over the whole, as one row, and the dims (see `_iterate_slices`)."""
    yield values.reshape(1, -1), None
    yield from _iterate_slices(values)


def _iterate_slices(values: torch.Tensor) -> Iterator[tuple[torch.Tensor, int]]:
    """Iterate over the dims, each as a matrix with a row per index. Dims whose slices are too small are left out."""
    for dim in range(values.dim()):
        if values.shape[dim] > 1 and values.numel() >= _LEAST * values.shape[dim]:
            yield values.movedim(dim, 0).reshape(values.shape[dim], -1), dim


def split(value: torch.Tensor) -> torch.Tensor:
    """Return a tensor in float64; a complex number becomes two elements along a further dim."""
    return (torch.view_as_real(value.resolve_conj()) if value.is_complex() else value).double()


def _is_float(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype in _FLOATS


def _is_all_finite(value: torch.Tensor) -> bool:
    """Return whether the sum of all elements is finite: then all are. It is read once, where `isfinite` makes four tensors."""
    total = value.sum(dtype=_WIDER.get(value.dtype, value.dtype))
    return bool(torch.isfinite(total))


def _rounds(op: Any, exact: Any, args: Sequence[Any]) -> bool:
    name = op.overloadpacket.__name__
    if name in _EXACT or torch.Tag.nondeterministic_seeded in op.tags or not any(map(_is_float, tree_leaves(exact))):
        return False
    if any(result.alias_info is not None and not result.is_write for result in op._schema.returns):
        return False
    if name == "_to_copy" and _is_float(args[0]):  # a wider dtype holds what it is given
        return bool(torch.finfo(exact.dtype).eps > torch.finfo(args[0].dtype).eps)
    return True
