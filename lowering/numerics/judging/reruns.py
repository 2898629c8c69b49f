"""Further runs of eager on the same inputs: in float64, with errors as rounding makes them, without subnormal numbers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from lowering.errors import LoadError
from lowering.numerics.judging import perturbed, rounding, subnormals
from lowering.numerics.running.runner import Eager, Tensors

_NEARBY = 16  # runs with weights off by their rounding: an activation crosses zero in some of them only
_REFUSALS = (LoadError, RuntimeError, NotImplementedError)  # by an op of the model's own that takes no such operands

Results = tuple[torch.Tensor, ...]


@dataclass
class Reruns:
    """Runs of eager on one set of inputs, each made when it is first asked for.

    holding: a mode inside which eager runs, such as one that holds it to a level's integers.
    """

    eager: Eager
    given: Tensors
    holding: AbstractContextManager[Any] = field(default_factory=nullcontext)
    _exact: Results | str | None = None
    _spreads: dict[torch.dtype, list[list[torch.Tensor]]] = field(default_factory=dict)  # after each sample
    _near: list[dict[str, torch.Tensor]] = field(default_factory=list)
    _squares: list[torch.Tensor] = field(default_factory=list)  # summed over perturbed runs
    _runs: int = 0  # perturbed ones

    def run(self, eager: Eager | None = None) -> Results:
        """Run eager, or another form of it."""
        with self.holding:
            return (eager or self.eager)(self.given)

    def compute_reference(self) -> Results | str:
        """Return eager's results in float64, or the reason why there are none, in words."""
        if self._exact is None:
            try:
                self._exact = self.run(self.eager.double())
            except (LoadError, RuntimeError) as error:
                self._exact = str(error).splitlines()[0]
        return self._exact

    def measure_spread(self, dtype: torch.dtype, count: int) -> list[torch.Tensor] | None:
        """Return how far rounding to `dtype` takes each element of each result, over `count` + 1 samples; None if an op takes none."""
        exact, samples = self.compute_reference(), self._spreads.setdefault(dtype, [])
        assert not isinstance(exact, str)
        try:
            while len(samples) <= count:
                double, before = self.eager.double(), samples[-1] if samples else None
                samples.append(rounding.spread(lambda double=double: self.run(double), exact, dtype, len(samples), before))  # type: ignore[misc]
        except _REFUSALS:
            return None
        return samples[count]

    def measure_deviation(self, index: int, want: Sequence[torch.Tensor], count: int) -> torch.Tensor | None:
        """Return the standard deviation of each element of a result over `count` perturbed runs, or None if eager takes none."""
        if self.eager.is_opaque:
            return None
        try:
            while self._runs < count:
                found = perturbed.square_distances(self.run, want, self._runs)
                self._squares = [one + other for one, other in zip(self._squares, found, strict=True)] if self._runs else found
                self._runs += 1
        except _REFUSALS:
            return None
        return perturbed.estimate_deviation(self._squares[index], self._runs, want[index])

    def sample(self, count: int) -> list[Sequence[torch.Tensor]]:
        """Return the results of `count` perturbed runs, none if eager takes no perturbed operands."""
        try:
            return [perturbed.sample(self.run, seed) for seed in range(count)]
        except _REFUSALS:
            return []

    def find_broken(self, index: int, wants: Sequence[torch.Tensor], count: int) -> torch.Tensor:
        """Return which elements of a result are NaN or infinite in one of `count` perturbed runs."""
        found = torch.zeros_like(wants[index], dtype=torch.bool)
        if self.eager.is_opaque:
            return found
        try:
            for seed in range(count):
                found |= perturbed.find_broken(self.run, wants, seed)[index]
        except _REFUSALS:
            return torch.zeros_like(found)
        return found

    def run_flushed(self) -> Results | None:
        """Return eager's results with subnormal numbers as zeros, or None if they cannot be computed."""
        if self.eager.is_opaque:
            return None
        try:
            with subnormals.flush():
                return self.run()
        except _REFUSALS:
            return None

    def compute_nearby(self, name: str) -> list[torch.Tensor]:
        """Compute a gradient with weights changed by their rounding: one activation that crosses zero changes all gradients below it."""
        if not self._near:
            labels = [result.label for result in self.eager.signature.returned]
            self._near = [dict(zip(labels, self.eager.nearby(seed)(self.given), strict=True)) for seed in range(_NEARBY)]
        return [results[name] for results in self._near]
