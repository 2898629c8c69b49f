"""A test of whether a result of halves was truncated instead of rounded: rounding to nearest errs up as often as down."""

from __future__ import annotations

from collections.abc import Sequence

import torch

_LEAST = 24  # elements that differ, below which chance decides to which side they do
_ONE_SIDED = 0.9  # of them are off to the same side
_CUT = 0.3  # mean error in rounding steps: 0.5 if all elements are cut off, 0 if they are rounded
_DEVIATIONS = 4.0  # standard deviations of the mean error that samples of honest rounding have


def is_one_sided(got: torch.Tensor, want: torch.Tensor) -> bool:
    """Return whether many elements differ, nearly all of them in the same direction: away from zero, or towards it."""
    one, other = got.double().abs(), want.double().abs()
    apart = (one - other)[torch.isfinite(one) & torch.isfinite(other) & (one != other)]
    return apart.numel() >= _LEAST and float(apart.sign().mean().abs()) >= 2 * _ONE_SIDED - 1


def measure(value: torch.Tensor, exact: torch.Tensor) -> float:
    """Return the mean error of the sizes of elements in rounding steps of their dtype, over those that the dtype does not hold exactly.

    exact: in float64. Elements that are not finite or too small for all digits are left out.
    """
    size, held = exact.abs(), torch.finfo(value.dtype)
    counts = torch.isfinite(exact) & torch.isfinite(value.double()) & (size >= held.tiny) & (exact.to(value.dtype).double() != exact)
    if not bool(counts.any()):
        return 0.0
    step = held.eps * 2.0 ** (torch.frexp(size[counts])[1].double() - 1)
    return float(((value.double().abs()[counts] - size[counts]) / step).mean())


def describe(got: torch.Tensor, want: torch.Tensor, exact: torch.Tensor, samples: Sequence[torch.Tensor]) -> str:
    """Describe the bias of `got`, or return an empty text if rounding explains it.

    samples: results of eager with errors as rounding makes them. A factor that all elements share, such as that of a norm, moves them
    together.
    """
    own, eager = measure(got, exact), measure(want, exact)
    drift = sum(measure(sample, exact) ** 2 for sample in samples) ** 0.5 / max(1, len(samples)) ** 0.5
    if abs(own) <= max(_CUT, 2 * abs(eager), _DEVIATIONS * drift):
        return ""
    side = "towards zero" if own < 0 else "away from zero"
    return f"elements are off {side} by {abs(own):.2f} rounding steps on average (eager's by {abs(eager):.2f}): cut off, not rounded"
