"""Results that samples of honest rounding explain, as they are or where activations are on the other side of a kink."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch

from lowering.numerics import comparison
from lowering.numerics.judging import perturbed, rounding
from lowering.numerics.judging.reruns import Reruns

Tensors = Sequence[torch.Tensor]

SAMPLES = 4  # float64 runs with rounding; most results are settled by none or one
MORE = 16  # if few elements are further off than mixtures of those: each may have erred by little in all of them
_FEW = 1 / 64


def is_rounding(reruns: Reruns, index: int, got: torch.Tensor, want: torch.Tensor, exact: torch.Tensor, dtype: torch.dtype | None,
                most: int, theirs: torch.Tensor | None = None) -> bool:
    """Return whether samples of rounding to `dtype`, `most` of them, take each element as far from `exact` as `got` is.

    theirs: the float64 reference of `want` if it has another than `got`; then `want` has to be as near to it as rounding takes it.
    """
    if dtype is None or dtype in perturbed.HALVES:  # eager's own runs with errors know which ops round to them
        return False
    for count in range(most):
        if (spreads := reruns.measure_spread(dtype, count)) is None:
            return False
        further = _count_further(got, want, exact, _pool(spreads[index]), theirs)
        if further and count + 1 == SAMPLES and further <= _FEW * got.numel() and (reach := reruns.measure_reach(dtype, count)):
            further = _count_further(got, want, exact, _pool(reach[index]), theirs)
        if not further or (count + 1 >= SAMPLES and further > _FEW * got.numel()):
            return not further
    return False


def find_crossed(reruns: Reruns, dtypes: Mapping[int, torch.dtype | None], got: Tensors, want: Tensors, most: int) -> Iterator[int]:
    """Find the results that agree with float64 where some activations are on the other side of a kink, where rounding took them.

    Eager has to agree with float64 likewise, perhaps with other ones: else float64 computes something else. dtypes: those that the results
    in question are rounded to, by index. With few samples of rounding (`most`) only activations are tried that are likely to explain them.
    """
    for dtype in (torch.float32, torch.float64):
        which = [index for index, rounded in dtypes.items() if rounded is dtype]
        if which and (found := _explain(reruns, which, got, want, dtype, most)) is not None:
            ours, theirs = found
            yield from (index for index in which if is_rounding(reruns, index, got[index], want[index], ours[index], dtype, MORE,
                                                                theirs[index]))


def _explain(reruns: Reruns, which: Sequence[int], got: Tensors, want: Tensors, dtype: torch.dtype,
             most: int) -> tuple[Tensors, Tensors] | None:
    """Return what float64 computes with the crossings that explain `got`, and with those that explain `want`, or None without any."""

    def explains_eager(theirs: Tensors) -> bool:
        spreads = reruns.measure_spread(dtype, SAMPLES - 1)
        return spreads is not None and not any(_count_off(want[index], theirs[index], _pool(spreads[index])) for index in which)

    def explains(ours: Tensors) -> bool:
        assert theirs is not None
        return all(is_rounding(reruns, index, got[index], want[index], ours[index], dtype, SAMPLES, theirs[index]) for index in which)

    theirs = reruns.explain_crossings(want, which, dtype, explains_eager, most < MORE)
    ours = reruns.explain_crossings(got, which, dtype, explains, most < MORE) if theirs is not None else None
    return (ours, theirs) if ours is not None and theirs is not None else None


def _count_further(got: torch.Tensor, want: torch.Tensor, exact: torch.Tensor, spread: torch.Tensor, theirs: torch.Tensor | None) -> int:
    """Count the elements that are further off than a spread explains, see `is_rounding`."""
    if theirs is None:
        return comparison.count_further(got, want, exact, rounding.fit(spread, want, exact))
    room = rounding.fit(spread, want, theirs)
    return _count_off(got, exact, room) + _count_off(want, theirs, room)


def _count_off(found: torch.Tensor, exact: torch.Tensor, room: torch.Tensor) -> int:
    """Count the elements of a result that are further from `exact` than the room of each."""
    return comparison.count_further(found, exact.to(found.dtype), exact, room)


def _pool(spread: torch.Tensor) -> torch.Tensor:
    """Return the room of each element: one that is off by little in all samples has the spread of its slices."""
    return spread if spread.is_complex() else perturbed.pool_distances(spread)
