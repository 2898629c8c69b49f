"""Results of programs that round activations to integers: where one is close to a tie, honest rounding decides, and a step is a large one.

The reference is the exported graph in float64, because quantized modules take no float64. Samples of it, in which every op errs as the
narrower dtype does, round the same elements to the one side or the other. A step in one element moves all results of its row, so each is
held to what the samples do to it, or to the typical element of its row. Rows that no step reaches have no such room.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import torch

from lowering.eager import widening
from lowering.level import Program
from lowering.model import Tolerance
from lowering.numerics import rounding
from lowering.numerics.runner import Tensors, arguments, as_tensor, build_exported

_SAMPLES = 16  # at most; fewer where further ones explain nothing more
_ROUND = 4  # samples after which fewer elements must be unexplained
_STEPS = 4.0  # errors of an op, in steps of its dtype: libraries approximate functions differently
_TYPICAL = 6.0  # medians of a row's distances that an element of it may be off by
_LEAST = 8  # elements of a row that have a typical one


@dataclass
class IntegerSteps:
    """How far rounding takes each result of an exported program at one set of inputs at a time."""

    program: Program
    _given: Tensors = field(default_factory=dict)
    _exact: tuple[torch.Tensor, ...] = ()
    _spreads: dict[torch.dtype, list[list[torch.Tensor]]] = field(default_factory=dict)  # after each sample

    def explain(self, index: int, got: torch.Tensor, want: torch.Tensor, given: Tensors, dtype: torch.dtype,
                tolerance: Tolerance) -> bool:
        """Return whether result `index` and eager's are both as near to the float64 result as rounding to `dtype` takes them."""
        if self._given is not given:
            self._given, self._spreads = given, {}
            self._exact = self._run()
        exact = self._exact[index]
        if exact.shape != want.shape or not exact.is_floating_point():
            return False
        allowed = tolerance.atol + tolerance.rtol * exact.abs()
        before = math.inf
        for count in range(_SAMPLES):
            room = _widen_to_row(self._spread(dtype, count)[index]) + allowed
            outside = sum(_count_outside(value, exact, room) for value in (got, want))
            if not outside:
                return True
            if count % _ROUND == _ROUND - 1:
                if outside >= before:
                    return False
                before = outside
        return False

    def _spread(self, dtype: torch.dtype, count: int) -> list[torch.Tensor]:
        samples = self._spreads.setdefault(dtype, [])
        if len(samples) <= count:
            samples.append(rounding.spread(self._run, self._exact, dtype, count, samples[-1] if samples else None, _STEPS))
        return samples[count]

    def _run(self) -> tuple[torch.Tensor, ...]:
        signature = self.program.signature
        assert signature is not None
        values = arguments(signature, self.program.weights, {each.name: self._given[each.name] for each in signature.inputs})
        run = build_exported(self.program)
        with widening.widen():
            return tuple(map(as_tensor, run(values)))


def _count_outside(value: torch.Tensor, exact: torch.Tensor, room: torch.Tensor) -> int:
    finite = torch.isfinite(exact) & torch.isfinite(value)
    return int((finite & ((value.double() - exact).abs() > room)).sum())


def _widen_to_row(spread: torch.Tensor) -> torch.Tensor:
    """Return `spread`, four times the largest distances of the samples, or more where the row's typical distance allows more."""
    if spread.dim() < 1 or spread.shape[-1] < _LEAST:
        return spread
    return torch.maximum(spread, _TYPICAL / rounding.ALLOWED * spread.median(-1, keepdim=True).values)
