"""Further runs of eager on the same inputs: in float64, with errors as rounding makes them, without subnormal numbers."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch

from lowering.errors import LoadError
from lowering.numerics.judging import perturbed, rounding, subnormals
from lowering.numerics.judging.crossings import Crossings
from lowering.numerics.running.runner import Eager, Tensors

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
    _crossings: dict[torch.dtype, Crossings] = field(default_factory=dict)
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
        """Return how far rounding to `dtype` takes each element of each result, over `count` + 1 samples; None if an op takes none.

        Activations that it takes across a kink are left out: they are moved one by one (see `explain_crossings`).
        """
        exact, samples = self.compute_reference(), self._spreads.setdefault(dtype, [])
        assert not isinstance(exact, str)
        try:
            while len(samples) <= count:
                held = self._find_crossings(dtype).hold()  # here, outside of the errors, it finds what to hold
                samples.append(rounding.spread(held, exact, dtype, len(samples), samples[-1] if samples else None))
        except _REFUSALS:
            return None
        return samples[count]

    def explain_crossings(self, found: Sequence[torch.Tensor], which: Sequence[int], dtype: torch.dtype) -> Sequence[torch.Tensor] | None:
        """Return what eager computes in float64 with those activations on the other side of a kink that explain the results `which` best.

        Returns None if rounding to `dtype` takes none there, or if an op takes no such operands (see `Crossings`).
        """
        exact, spreads, held = self.compute_reference(), self.measure_spread(dtype, 0), torch.finfo(dtype)
        if spreads is None:
            return None
        assert not isinstance(exact, str)
        sizes = [max(rounding.measure_size(spreads[index]), held.eps * rounding.measure_size(exact[index]), held.tiny) for index in which]
        try:
            return self._find_crossings(dtype).explain(found, which, sizes)
        except _REFUSALS:
            return None

    def _find_crossings(self, dtype: torch.dtype) -> Crossings:
        exact = self.compute_reference()
        assert not isinstance(exact, str)
        if dtype not in self._crossings:
            double = self.eager.double()
            self._crossings[dtype] = Crossings(lambda: self.run(double), exact, dtype)
        return self._crossings[dtype]

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
