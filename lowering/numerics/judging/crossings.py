"""Activations that rounding takes across a kink, where gradients jump: which of them explain a result is found by moving them across.

A ReLU of 1e-9 may be one of -1e-9 in another library. No op is wrong then, and every gradient below it differs by far more than rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from lowering.numerics.judging import rounding
from lowering.numerics.judging.kinked_runs import Distances, Element, FindingNearest, Holding, Moving, Nearest, ReadingAgain

Results = Sequence[torch.Tensor]
Shift = Callable[[Mapping[int, torch.Tensor]], AbstractContextManager[Any]]

_SAMPLES = 2  # runs with errors that show how far rounding takes elements
_REACH = 8.0  # times that, up to which an element may have crossed
_TRIED = 16  # elements that are moved, each in a run of its own, before a difference is looked at again
_RANKED = 4  # the same where it is known which elements are likely to explain it
_MOST = 96  # elements that are moved at most
_NOISE = 2.0  # times what rounding makes, up to which an element needs no explanation
_ROOM = 1 << 29  # elements of results that are kept of these runs
_LEAST = 1e-3  # of the squared difference, which an element has to explain to be chosen
_DIRECTIONS = 4  # in which weights are shifted at random
_SHIFTED = 1e-7  # by how much weights are shifted at most: distances of elements from their kinks are linear in so small a shift

Effect = Mapping[int, torch.Tensor]  # what moving an element changes in the results with these indices


@dataclass
class Crossings:
    """The elements of one float64 run that may be on the other side of a kink in a run of `dtype`, and what moving each of them changes.

    run: runs the model in float64; exact: its results. shift: a context in which weights are off, each by the tensor that is given by the
    index of the result that is its gradient; empty if no result is one.
    """

    run: Callable[[], Results]
    exact: Results
    dtype: torch.dtype
    shift: Shift | None = None
    gradients: frozenset[int] = frozenset()
    _elements: list[Element] | None = None
    _nearest: Nearest | None = None
    _samples: list[Distances] = field(default_factory=list)
    _effects: dict[Element, Effect] = field(default_factory=dict)
    _reaches: dict[tuple[int, ...], dict[Element, float]] = field(default_factory=dict)  # on the results with these indices

    def explain(self, found: Results, which: Sequence[int], sizes: Sequence[float], settles: Callable[[Results], bool] = lambda _: False,
                is_brief: bool = False) -> Results | None:
        """Return the results of the float64 run with those elements moved that best explain the results `which` of `found`.

        Returns `exact` if they are best explained by none, and None if the model has no element that may have crossed. sizes: of the errors
        that rounding makes in each of these results. settles: whether an explanation is good enough to end the search. is_brief: end it
        when no further element is likely to explain anything.
        """
        if not self.elements:
            return None
        fit, judged, results = _Fit.begin(found, self.exact, which, sizes), None, self.exact
        most = min(len(self.elements), max(1, _ROOM // sum(self.exact[index].numel() for index in which)))
        while True:
            tried = {element: effect for element, effect in self._effects.items() if all(index in effect for index in which)}
            is_explained = fit.choose(tried)
            if fit.chosen != judged:
                judged, results = fit.chosen, self._run(Moving(fit.chosen)) if fit.chosen else self.exact
                is_explained = is_explained or settles(results)
            if is_explained or len(tried) >= most or not (further := self._rank(fit, tried, is_brief)):
                return results
            for element in further[: most - len(tried)]:
                self._effects[element] = {**self._effects.get(element, {}), **fit.measure(self._run(Moving((element,))))}

    def _rank(self, fit: _Fit, tried: Mapping[Element, Effect], is_brief: bool) -> Sequence[Element]:
        """Return the elements to move next: those that explain most of what is left, else the likeliest to have crossed.

        The effect of a crossing on the gradients has the direction of the gradient of the element's distance from its kink. So a shift of
        the weights in the direction of what is left shows for all elements at once how much of it each explains: the share of the largest
        change of the distance that a shift of this length makes.
        """
        rest = [element for element in self.elements if element not in tried]
        shifts = {index: off / size for index, off, size in zip(fit.which, fit.rest, fit.sizes, strict=True)
                  if index in self.gradients and bool(off.any())}
        if self.shift is None or not shifts:
            return [] if is_brief and tried else rest[:_TRIED]
        reaches, changes = self._measure_reaches(fit), self._measure_changes(shifts)
        length = math.sqrt(sum(float(off.square().sum()) for off in fit.rest))
        shares = {element: (changes[element] / (reaches[element] * length)) ** 2 if reaches[element] else 0.0 for element in rest}
        aligned = sorted((element for element in rest if shares[element] >= _LEAST), key=lambda element: -shares[element])
        return aligned[:_RANKED] or ([] if is_brief else rest[:_TRIED])

    def _measure_reaches(self, fit: _Fit) -> dict[Element, float]:
        """Return by how much a shift of the weights changes the distance of each element at most, measured in random directions."""
        key = tuple(fit.which)
        if key not in self._reaches:
            squares = dict.fromkeys(self.elements, 0.0)
            for seed in range(_DIRECTIONS):
                draw = torch.Generator().manual_seed(seed)
                shifts = {index: torch.randn(self.exact[index].numel(), generator=draw) / size
                          for index, size in zip(fit.which, fit.sizes, strict=True) if index in self.gradients}
                for element, change in self._measure_changes(shifts).items():
                    squares[element] += change * change / _DIRECTIONS
            self._reaches[key] = {element: math.sqrt(square) for element, square in squares.items()}
        return self._reaches[key]

    def _measure_changes(self, shifts: Mapping[int, torch.Tensor]) -> dict[Element, float]:
        """Return by how much a shift of the weights changes the distance of each element from its kink, in proportion to the shift."""
        assert self.shift is not None
        scale = _SHIFTED / max(float(off.abs().max()) for off in shifts.values())
        reading = ReadingAgain(self.nearest)
        with self.shift({index: (scale * off.double()).reshape(self.exact[index].shape) for index, off in shifts.items()}):
            self._run(reading)
        changes = {}
        for element in self.elements:
            call = element.calls[0]
            indices, before = self.nearest[call]
            change = float(((reading.found[call] - before)[indices == element.index]).sum()) / scale if call in reading.found else 0.0
            changes[element] = change if math.isfinite(change) else 0.0
        return changes

    def sample(self) -> Results:
        """Run the model, inside of a mode with errors, with every element on the side of the float64 run, and see how far it is off."""
        holding = Holding(self.nearest)
        results = self._run(holding)
        self._samples.append(holding.found)
        return results

    @property
    def nearest(self) -> Nearest:
        """The elements of each op that are nearest to a kink."""
        if self._nearest is None:
            mode = FindingNearest()
            self._run(mode)
            self._nearest = mode.found
        return self._nearest

    @property
    def elements(self) -> Sequence[Element]:
        """The elements that rounding may take across a kink, the likeliest first. One that several ops read is one element."""
        if self._elements is None:
            while self.nearest and len(self._samples) < _SAMPLES:
                with rounding.Erring(self.dtype, len(self._samples)):
                    self.sample()
            likely: dict[tuple[int, float], tuple[float, list[int]]] = {}
            for call, (indices, distances) in self.nearest.items():
                samples = [sample[call] for sample in self._samples[:_SAMPLES] if call in sample]
                for rate, index, distance in _rate(indices, distances, samples):
                    likely.setdefault((index, distance), (rate, []))[1].append(call)
            rated = sorted(((rate, Element(tuple(calls), index)) for (index, _), (rate, calls) in likely.items()), key=lambda one: one[0])
            self._elements = [element for _, element in rated[:_MOST]]
        return self._elements

    def _run(self, *modes: AbstractContextManager[Any]) -> Results:
        with ExitStack() as stack:
            for mode in modes:
                stack.enter_context(mode)
            return self.run()


@dataclass
class _Fit:
    """Differences from the float64 run, each in units of what rounding makes, and the elements that are chosen to explain them.

    rest: the differences that these do not explain.
    """

    exact: Results
    which: Sequence[int]
    sizes: Sequence[float]
    differences: Sequence[torch.Tensor]
    rest: Sequence[torch.Tensor] = ()
    chosen: set[Element] = field(default_factory=set)

    @staticmethod
    def begin(found: Results, exact: Results, which: Sequence[int], sizes: Sequence[float]) -> _Fit:
        fit = _Fit(exact, which, sizes, ())
        return replace(fit, differences=list(fit.measure(found).values()))

    def measure(self, found: Results) -> dict[int, torch.Tensor]:
        """Return how far results are from the float64 run by index, each as a vector of float32."""
        return {index: (torch.view_as_real(off) if off.is_complex() else off).reshape(-1).float() for index, off in (
            (index, ((found[index] - self.exact[index]) / size).nan_to_num(0.0, 0.0, 0.0)
             if found[index].shape == self.exact[index].shape else torch.zeros_like(self.exact[index]))
            for index, size in zip(self.which, self.sizes, strict=True))}

    def choose(self, tried: Mapping[Element, Effect]) -> bool:
        """Choose elements one after the other, each the one that explains most. Return whether all that differs is explained."""
        self.chosen, rest = set(), list(self.differences)
        others = {element: [effect[index] for index in self.which] for element, effect in tried.items()}
        left = sum(float(part.square().sum()) for part in rest)
        while others and not _are_noise(rest):
            gains = {element: sum(float((part * (2 * off - part)).sum()) for off, part in zip(rest, effect, strict=True))
                     for element, effect in others.items()}
            element = max(gains, key=gains.__getitem__)
            if gains[element] < _LEAST * left:
                break
            self.chosen.add(element)
            rest = [off - part for off, part in zip(rest, others.pop(element), strict=True)]
            left = sum(float(part.square().sum()) for part in rest)
        self.rest = rest
        return _are_noise(rest)


def _are_noise(differences: Sequence[torch.Tensor]) -> bool:
    """Return whether no element is further off than what rounding makes."""
    return all(not part.numel() or float(part.abs().max()) <= _NOISE for part in differences)


def _rate(indices: torch.Tensor, distances: torch.Tensor, samples: Sequence[torch.Tensor]) -> Iterator[tuple[float, int, float]]:
    """Iterate over the elements within reach of a kink: the distance of each in units of its rounding, its index, and the distance."""
    if not samples:
        return
    # NaN: another element is the largest in that sample
    off = torch.stack([torch.where(sample.isnan(), distances, sample - distances).abs() for sample in samples]).amax(0)
    off = torch.maximum(off, off.median())  # one may err by little in all samples
    for index, distance, room in zip(indices.tolist(), distances.tolist(), off.tolist(), strict=True):
        if math.isfinite(room) and abs(distance) <= _REACH * room:
            yield abs(distance) / room, index, distance
