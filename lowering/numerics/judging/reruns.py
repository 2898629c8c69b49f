"""Further runs of eager on the same inputs: in float64, with errors as rounding makes them, without subnormal numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch

from lowering.errors import LoadError
from lowering.model import GRADIENT
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
    _reaches: dict[torch.dtype, list[list[torch.Tensor]]] = field(default_factory=dict)
    _crossings: dict[torch.dtype, Crossings] = field(default_factory=dict)
    _squares: list[torch.Tensor] = field(default_factory=list)  # summed over perturbed runs
    _runs: int = 0  # perturbed ones
    _flushed: Results | None = None

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
        reaches = self._reaches.setdefault(dtype, [])
        assert not isinstance(exact, str)
        try:
            while len(samples) <= count:
                crossings = self._find_crossings(dtype)
                _ = crossings.nearest  # outside of the errors
                found = rounding.spread(crossings.sample, exact, dtype, len(samples))
                samples.append(list(map(rounding.pick_larger, samples[-1], found)) if samples else found)
                reaches.append(list(map(rounding.add_squares, reaches[-1], found)) if reaches else found)
        except _REFUSALS:
            return None
        return samples[count]

    def measure_reach(self, dtype: torch.dtype, count: int) -> list[torch.Tensor] | None:
        """Return how far mixtures of these samples take each element at most, where the squares of their shares add up to one.

        Errors of ops add up linearly, so a mixture is another sample. Its spread is larger than that of the samples by as much as theirs
        would grow with some more of them.
        """
        return None if self.measure_spread(dtype, count) is None else self._reaches[dtype][count]

    def explain_crossings(self, found: Sequence[torch.Tensor], which: Sequence[int], dtype: torch.dtype,
                          settles: Callable[[Sequence[torch.Tensor]], bool], is_brief: bool) -> Sequence[torch.Tensor] | None:
        """Return what eager computes in float64 with those activations on the other side of a kink that explain the results `which` best.

        Returns None if rounding to `dtype` takes none there, or if an op takes no such operands (see `Crossings`).
        """
        exact, spreads, held = self.compute_reference(), self.measure_spread(dtype, 0), torch.finfo(dtype)
        if spreads is None:
            return None
        assert not isinstance(exact, str)
        sizes = [max(rounding.measure_size(spreads[index]), held.eps * rounding.measure_size(exact[index]), held.tiny) for index in which]
        try:
            return self._find_crossings(dtype).explain(found, which, sizes, settles, is_brief)
        except _REFUSALS:
            return None

    def _find_crossings(self, dtype: torch.dtype) -> Crossings:
        exact = self.compute_reference()
        assert not isinstance(exact, str)
        if dtype not in self._crossings:
            double = self.eager.double()
            trains = double.model.mode == "training"  # then it has weights of its own
            weights = dict(double.module.named_parameters(remove_duplicate=False)) if trains else {}
            owners = {index: weights[result.name.removeprefix(GRADIENT)] for index, result in enumerate(self.eager.signature.returned)
                      if trains and result.kind == "gradient" and not exact[index].is_complex()}
            self._crossings[dtype] = Crossings(lambda: self.run(double), exact, dtype, partial(_shift, owners), frozenset(owners))
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
        if self._flushed is None:
            try:
                with subnormals.flush():
                    self._flushed = self.run()
            except _REFUSALS:
                self._flushed = ()
        return self._flushed or None


@contextmanager
def _shift(weights: Mapping[int, torch.Tensor], offs: Mapping[int, torch.Tensor]) -> Iterator[None]:
    """Shift weights for the block, each by the tensor with the same key."""
    before = {index: weights[index].detach().clone() for index in offs}
    try:
        with torch.no_grad():
            for index, off in offs.items():
                weights[index].add_(off)
        yield
    finally:
        with torch.no_grad():
            for index, value in before.items():
                weights[index].copy_(value)
