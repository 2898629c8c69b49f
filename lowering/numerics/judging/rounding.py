"""The effect of honest rounding on each element of a result: a float64 run in which every op errs as an op of a narrower float may."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils._pytree import tree_leaves, tree_map

from lowering.numerics import noise
from lowering.numerics.running.watching import Watching

# Each element of their results is a sum of products over a dim that both operands have.
_CONTRACTING = frozenset((
    "mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot", "convolution", "convolution_backward", "mkldnn_convolution", "linear",
    "einsum",
))  # fmt: skip
# Each element of their results is a sum over the dims transformed. Its factors are rounded too, so it errs as a sum of four times as many.
_TRANSFORMS = frozenset(("_fft_r2c", "_fft_c2r", "_fft_c2c"))
# Each element of their results is a sum, product or logarithm of a sum of all before it, taken in some order. In that of a tree each of its
# levels, of which there are log2 of the length, errs as much as one rounding of all elements.
_SCANS = frozenset(("cumsum", "cumprod", "logcumsumexp", "_logcumsumexp"))
# Each element of their results is one of an operand, and their gradient goes to the elements that equal it.
_PICKING = frozenset(("amax", "amin", "max", "min", "maximum", "minimum", "median", "nanmedian"))
# They end with the logarithm of a sum of exponentials, of which the largest is 1: it errs by rounding steps of 1, however small it is.
_LOGARITHMS = frozenset(("_log_softmax", "logsumexp", "_logcumsumexp"))
# They add 1 to the coordinates that they are given: those near 0 err by rounding steps of 1 too.
_SAMPLERS = frozenset(("grid_sampler", "grid_sampler_2d", "grid_sampler_3d"))
# They compute at which coordinates of their operand each element lies: these err by rounding steps of the index, and so does where the
# gradients go.
_RESIZERS = frozenset((
    "upsample_linear1d", "upsample_bilinear2d", "upsample_bicubic2d", "upsample_trilinear3d", "_upsample_bilinear2d_aa",
    "_upsample_bicubic2d_aa", "_upsample_lanczos2d_aa",
))  # fmt: skip
_RESIZED = frozenset(f"{name}_backward" for name in _RESIZERS)
# Their gradients add up to zero over all dims but these. The means that are taken off err as sums, in all elements alike, and gradients
# further down, such as that of a bias before the norm, add up nothing else.
_CENTRED = {"native_batch_norm_backward": (1,), "native_group_norm_backward": (0, 1)}
_MEANS = 3.0  # of the gradient, of its product with the input, and the one in the variance
ALLOWED = 4.0  # times the largest distance among the samples
FITTED = 4.0  # times that again, where eager itself is further off


class Erring(Watching):
    """Inside, every op in float64 errs by some `step` (`steps` rounding steps of the dtype that is imitated), relative to its operands and
    result.

    The order in which a sum is taken decides its error, so operands of a sum of n terms are off by sqrt(n) / 2 steps. A result that the
    narrower dtype holds as it is stays as it is: whole numbers, masks and copies do not err. A sum that comes out so errs all the same,
    unless all its terms are whole.
    """

    def __init__(self, dtype: torch.dtype, seed: int, steps: float = 1.0) -> None:
        super().__init__()
        self.dtype, self.step, self._noise = dtype, steps * torch.finfo(dtype).eps, noise.Noise(seed)

    def watch(self, op: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        exact = op(*args, **kwargs)
        if op._schema.is_mutable or torch.Tag.nondeterministic_seeded in op.tags or not self._rounds(op, exact):
            return exact
        operands = [value for value in tree_leaves([args, kwargs]) if _is_wide(value)]
        terms = _count_terms(op, args, operands, exact)
        if terms > 1.5 and all(map(noise.is_whole, operands)):
            return exact
        share, name = _share(terms), op.overloadpacket.__name__
        if name in _SAMPLERS:
            args = (args[0], args[1] + self.step * self._noise.draw(args[1]), *args[2:])
        elif name in _RESIZERS:
            args = (self._shift_coordinates(args[0]), *args[1:])
        off = op(*tree_map(self._off(share), tuple(args)), **tree_map(self._off(share), dict(kwargs)))
        results, shifted = (exact, off) if isinstance(exact, list | tuple) else ([exact], [off])
        if name in _LOGARITHMS:
            shifted = [value + share * self.step * self._noise.draw(value) for value in shifted]
        if name in _CENTRED and _is_wide(shifted[0]):
            shifted = [self._shift_means(shifted[0], _CENTRED[name]), *shifted[1:]]
        if name in _RESIZED:
            shifted = [self._shift_coordinates(value) for value in shifted]
        if name == "convolution_backward":
            shifted = _scale(results, shifted, args[0], share)
        made = [self._round_result(one, other, terms > 1.5) for one, other in zip(results, shifted, strict=True)]
        return type(exact)(made) if isinstance(exact, list | tuple) else made[0]

    def _rounds(self, op: Any, exact: Any) -> bool:
        """Return whether an op computes only floats: indices of nearly equal elements must not depend on the noise of a copy.

        The integers beside a decomposition are its pivots and whether it failed.
        """
        if op.overloadpacket.__name__ in _PICKING or any(result.alias_info is not None for result in op._schema.returns):
            return False
        leaves = tree_leaves(exact)
        return any(map(_is_wide, leaves)) and (_decomposes(op) or all(_is_wide(leaf) or leaf is None for leaf in leaves))

    def _off(self, share: float) -> Callable[[Any], Any]:
        def shift(value: Any) -> Any:
            return self._err(value, share * self.step) if _is_wide(value) else value

        return shift

    def _shift_means(self, gradient: torch.Tensor, kept: Sequence[int]) -> torch.Tensor:
        """Return a gradient off by the errors of the sums of its elements over all dims that are not `kept`."""
        size = gradient.abs().mean([dim for dim in range(gradient.dim()) if dim not in kept], keepdim=True)
        return gradient + _MEANS * _share(gradient.numel() / max(1, size.numel())) * self.step * self._noise.draw(size) * size

    def _shift_coordinates(self, value: torch.Tensor) -> torch.Tensor:
        """Return an image, or a gradient of one, off as if the coordinates of its elements erred by rounding steps of their indices."""
        for dim in range(2, value.dim()):
            size = value.shape[dim]
            index = torch.arange(1, size + 1, dtype=value.dtype).reshape([-1 if other == dim else 1 for other in range(value.dim())])
            steps = torch.cat((value.narrow(dim, 0, 1), value, value.narrow(dim, size - 1, 1)), dim).diff(dim=dim)
            for neighbour in (steps.narrow(dim, 0, size), steps.narrow(dim, 1, size)):
                value = value + self.step * self._noise.draw(value) * index * neighbour
        return value

    def _err(self, value: torch.Tensor, step: float) -> torch.Tensor:
        """Return a tensor whose elements are off by up to `step`, relative to each."""
        off = self._noise.draw(value).mul_(step).add_(1)
        return off.mul_(value) if (off.dtype, off.stride()) == (value.dtype, value.stride()) else value * off

    def _round_result(self, exact: Any, off: Any, is_sum: bool) -> Any:
        if not _is_wide(exact):
            return exact
        erred = self._err(off, self.step)
        if is_sum and bool(torch.isfinite(off.sum())):  # so that each element is, as nearly always
            return erred
        if is_sum:
            held = torch.zeros_like(exact, dtype=torch.bool)
        else:
            held = exact == (exact.round() if self.dtype is torch.float64 else exact.to(_narrow(exact, self.dtype)).to(exact.dtype))
        return torch.where(held | ~torch.isfinite(off), exact, erred)


def spread(run: Callable[[], Sequence[torch.Tensor]], exact: Sequence[torch.Tensor], dtype: torch.dtype, seed: int,
           before: Sequence[torch.Tensor] | None = None, steps: float = 1.0) -> list[torch.Tensor]:
    """Return how far each element may be from `exact` by rounding to `dtype`, after one more sample. before: the earlier result.

    steps: how many rounding steps each op errs by.
    """
    with Erring(dtype, seed, steps):
        sample = run()
    found = []
    for position, (one, other) in enumerate(zip(sample, exact, strict=True)):
        fits = one.shape == other.shape and (one.is_floating_point() or one.is_complex())
        off = ALLOWED * measure_distance(one, other) if fits else torch.zeros_like(other)
        found.append(off if before is None else pick_larger(before[position], off))
    return found


def fit(spread: torch.Tensor, want: torch.Tensor, exact: torch.Tensor) -> torch.Tensor:
    """Return a spread that is as many times larger as eager's own rounding exceeds it, at most FITTED times.

    Few samples miss the largest errors of many elements. Eager's own errors are honest, so where they exceed the spread, it is too small.
    """
    own = measure_distance(want.to(exact.dtype), exact)
    ratios = [off[room > 0] / room[room > 0] for off, room in zip(*map(_split_parts, (own, spread)), strict=True)]
    most = max((float(ratio.max()) for ratio in ratios if ratio.numel()), default=1.0)
    return spread * min(max(most, 1.0), FITTED)


def measure_distance(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return |one - other| element by element, of complex numbers by parts; 0 where it is not finite."""
    if not other.is_complex():
        return torch.nan_to_num((one - other).abs(), 0.0, 0.0, 0.0)
    return torch.complex(measure_distance(one.real, other.real), measure_distance(one.imag, other.imag))


def measure_size(value: torch.Tensor) -> float:
    """Return the root mean square of the elements."""
    return float(value.abs().square().mean().sqrt()) if value.numel() else 0.0


def pick_larger(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return the larger of two distances element by element, of complex numbers by parts."""
    if not other.is_complex():
        return torch.maximum(one, other)
    return torch.complex(torch.maximum(one.real, other.real), torch.maximum(one.imag, other.imag))


def add_squares(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """Return the root of the sum of two squares element by element, of complex numbers by parts; integers do not err."""
    if not other.is_complex():
        return torch.hypot(one, other) if other.is_floating_point() else other
    return torch.complex(torch.hypot(one.real, other.real), torch.hypot(one.imag, other.imag))


def _split_parts(value: torch.Tensor) -> tuple[torch.Tensor, ...]:
    return (value.real, value.imag) if value.is_complex() else (value,)


def _is_wide(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype in (torch.float64, torch.complex128)


def _narrow(value: torch.Tensor, dtype: torch.dtype) -> torch.dtype:
    return torch.complex64 if value.is_complex() and dtype is torch.float32 else dtype


def _decomposes(op: Any) -> bool:
    """Return whether an op inverts, solves or decomposes matrices."""
    return bool(op.overloadpacket.__name__.lstrip("_").startswith("linalg_"))


def _share(terms: float) -> float:
    """Return by how many steps the operands of a sum are off."""
    return max(1.0, math.sqrt(terms) / 2)


def _scale(exact: Sequence[Any], off: Sequence[Any], gradient: torch.Tensor, share: float) -> list[Any]:
    """Return the gradients of a convolution, each off by the share of its own sum: that of the bias adds up all of `gradient`.

    share: the one by which they are off. The gradients are linear in it.
    """
    return [other if not _is_wide(one) or one.dim() > 1 else one + (other - one) * _share(gradient.numel() / one.numel()) / share
            for one, other in zip(exact, off, strict=True)]


def _count_terms(op: Any, args: Sequence[Any], operands: Sequence[torch.Tensor], exact: Any) -> float:
    """Estimate the number of terms of which each element of the result is the sum."""
    if op.overloadpacket.__name__ in _SCANS and exact.dim():
        return math.log2(1 + exact.shape[args[1]])
    if op.overloadpacket.__name__ in _TRANSFORMS:
        return 4.0 * math.prod(max(value.shape[dim] for value in (args[0], exact)) for dim in args[1])
    result = max(1, max(leaf.numel() for leaf in tree_leaves(exact) if isinstance(leaf, torch.Tensor)))
    sizes = [max(1, operand.numel()) for operand in operands]
    if _decomposes(op):
        return float(operands[0].shape[-1]) if operands and operands[0].dim() else 1.0
    if op.overloadpacket.__name__ in _CONTRACTING and len(sizes) > 1:
        first, second = sorted(sizes)[-2:]
        return math.sqrt(first * second / result)
    return max(sizes, default=1) / result
