"""Activations that rounding takes across a kink, where gradients jump: which of them explain a result is found by moving them across.

A ReLU of 1e-9 may be one of -1e-9 in another library. No op is wrong then, and every gradient below it differs by far more than rounding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes

from lowering.numerics.judging import kinks, rounding
from lowering.numerics.running.watching import Watching

Results = Sequence[torch.Tensor]
Nearest = Mapping[int, tuple[torch.Tensor, torch.Tensor]]  # by number of the op: flat indices of its operand, distances

_KEPT = 64  # elements of each op that are nearest to a kink
_SAMPLES = 2  # runs that show how far rounding takes them
_REACH = 8.0  # times that, up to which an element may have crossed
_TRIED = 16  # elements that are moved, each in a run of its own, before a difference is looked at again
_MOST = 96  # elements that are moved at most
_NOISE = 2.0  # times what rounding makes, up to which an element needs no explanation
_ROOM = 1 << 29  # elements of results that are kept of these runs
_LEAST = 1e-3  # of the squared difference, which an element has to explain to be chosen


@dataclass(frozen=True)
class Element:
    """An element near a kink. call: the number of its op in the run; index: its flat index in the operand."""

    call: int
    index: int


Effect = tuple[Element, Sequence[torch.Tensor]]  # what moving an element changes in some results


@dataclass
class Crossings:
    """The elements of one float64 run that may be on the other side of a kink in a run of `dtype`, and what moving each of them changes.

    run: runs the model in float64; exact: its results.
    """

    run: Callable[[], Results]
    exact: Results
    dtype: torch.dtype
    _elements: list[Element] | None = None
    _nearest: Nearest | None = None
    _effects: dict[tuple[int, ...], list[Effect]] = field(default_factory=dict)  # on the results with these indices

    def explain(self, found: Results, which: Sequence[int], sizes: Sequence[float]) -> Results | None:
        """Return the results of the float64 run with those elements moved that best explain the results `which` of `found`.

        Returns `exact` if they are best explained by none, and None if the model has no element that may have crossed. sizes: of the errors
        that rounding makes in each of these results.
        """
        if not self.elements:
            return None
        fit = _Fit.begin(found, self.exact, which, sizes)
        effects = self._effects.setdefault(tuple(which), [])
        most = min(len(self.elements), max(1, _ROOM // sum(self.exact[index].numel() for index in which)))
        while not fit.choose(effects) and len(effects) < most:
            effects += [(element, fit.measure(self._run(_Moving((element,)))))
                        for element in self.elements[len(effects) : min(most, len(effects) + _TRIED)]]
        return self._run(_Moving(fit.chosen)) if fit.chosen else self.exact

    def hold(self) -> Callable[[], Results]:
        """Return a run of the model in which every element stays on the side of the float64 run."""
        return partial(self._run, _Holding(self.nearest))

    @property
    def nearest(self) -> Nearest:
        """The elements of each op that are nearest to a kink."""
        if self._nearest is None:
            mode = _FindingNearest()
            self._run(mode)
            self._nearest = mode.found
        return self._nearest

    @property
    def elements(self) -> Sequence[Element]:
        """The elements that rounding may take across a kink, the likeliest first."""
        if self._elements is None:
            samples = []
            for seed in range(_SAMPLES if self.nearest else 0):
                again = _ReadingAgain(self.nearest)
                self._run(rounding.Erring(self.dtype, seed), again)
                samples.append(again.found)
            likely = [candidate for call, (indices, distances) in self.nearest.items()
                      for candidate in _rate(call, indices, distances, [sample[call] for sample in samples if call in sample])]
            self._elements = [element for _, element in sorted(likely, key=lambda candidate: candidate[0])[:_MOST]]
        return self._elements

    def _run(self, *modes: AbstractContextManager[Any]) -> Results:
        with ExitStack() as stack:
            for mode in modes:
                stack.enter_context(mode)
            return self.run()


@dataclass
class _Fit:
    """Differences from the float64 run, each in units of what rounding makes, and the elements that are chosen to explain them."""

    exact: Results
    which: Sequence[int]
    sizes: Sequence[float]
    differences: Sequence[torch.Tensor]
    chosen: set[Element] = field(default_factory=set)

    @staticmethod
    def begin(found: Results, exact: Results, which: Sequence[int], sizes: Sequence[float]) -> _Fit:
        fit = _Fit(exact, which, sizes, ())
        return replace(fit, differences=fit.measure(found))

    def measure(self, found: Results) -> list[torch.Tensor]:
        """Return how far results are from the float64 run, each as a vector of float32."""
        return [(torch.view_as_real(off) if off.is_complex() else off).reshape(-1).float() for off in (
            ((found[index] - self.exact[index]) / size).nan_to_num(0.0, 0.0, 0.0) if found[index].shape == self.exact[index].shape
            else torch.zeros_like(self.exact[index]) for index, size in zip(self.which, self.sizes, strict=True))]

    def choose(self, tried: Sequence[Effect]) -> bool:
        """Choose elements one after the other, each the one that explains most. Return whether all that differs is explained."""
        self.chosen, rest, others = set(), list(self.differences), list(tried)
        left = sum(float(part.square().sum()) for part in rest)
        while others and not _are_noise(rest):
            gains = [sum(float((part * (2 * off - part)).sum()) for off, part in zip(rest, effect, strict=True)) for _, effect in others]
            if max(gains) < _LEAST * left:
                break
            element, effect = others.pop(gains.index(max(gains)))
            self.chosen.add(element)
            rest = [off - part for off, part in zip(rest, effect, strict=True)]
            left = sum(float(part.square().sum()) for part in rest)
        return _are_noise(rest)


def _are_noise(differences: Sequence[torch.Tensor]) -> bool:
    """Return whether no element is further off than what rounding makes."""
    return all(not part.numel() or float(part.abs().max()) <= _NOISE for part in differences)


def _rate(call: int, indices: torch.Tensor, distances: torch.Tensor, samples: Sequence[torch.Tensor]) -> Iterator[tuple[float, Element]]:
    """Iterate over the elements within reach of a kink: the distance of each in units of its rounding, and the element."""
    if not samples:
        return
    # NaN: another element is the largest in that sample
    off = torch.stack([torch.where(sample.isnan(), distances, sample - distances).abs() for sample in samples]).amax(0)
    off = torch.maximum(off, off.median())  # one may err by little in all samples
    for index, distance, room in zip(indices.tolist(), distances.abs().tolist(), off.tolist(), strict=True):
        if math.isfinite(room) and distance <= _REACH * room:
            yield distance / room, Element(call, index)


class _Kinked(Watching):
    """Calls `visit` for every op that may have a kink, with its number and the distance of each element of its operand from the kink."""

    def __init__(self, calls: Collection[int] | None = None) -> None:
        """Visit the ops with these numbers, or all."""
        super().__init__()
        self.calls, self.count = calls, 0

    def watch(self, op: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        if not kinks.has(op):
            return op(*args, **kwargs)
        self.count += 1
        with _disable_current_modes():  # distances do not err
            found = kinks.find(op, args) if self.calls is None or self.count in self.calls else None
        if found is not None and (indices := self.visit(self.count, found.distances)):
            where = torch.unravel_index(torch.tensor(indices), found.distances.shape)
            operand = args[found.position] if op._schema.is_mutable else args[found.position].clone()
            operand[where] -= 2 * found.distances[where]
            args = (*args[: found.position], operand, *args[found.position + 1 :])
        return op(*args, **kwargs)

    def visit(self, call: int, distances: torch.Tensor) -> Sequence[int]:
        """Return the flat indices of the elements to move across the kink."""
        raise NotImplementedError


class _FindingNearest(_Kinked):
    """Finds the elements of each op that are nearest to a kink, and not on it: what is on it is so in exact arithmetic."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def visit(self, call: int, distances: torch.Tensor) -> Sequence[int]:
        flat = distances.reshape(-1)
        sizes = torch.where(torch.isfinite(flat) & (flat != 0), flat.abs(), math.inf)
        nearest, indices = sizes.topk(min(_KEPT, sizes.numel()), largest=False)
        indices = indices[torch.isfinite(nearest)]
        if indices.numel():
            self.found[call] = indices, flat[indices].clone()
        return ()


class _ReadingAgain(_Kinked):
    """Reads the distances of the same elements in another run."""

    def __init__(self, nearest: Nearest) -> None:
        super().__init__(nearest)
        self.nearest = nearest
        self.found: dict[int, torch.Tensor] = {}

    def visit(self, call: int, distances: torch.Tensor) -> Sequence[int]:
        indices, _ = self.nearest[call]
        if int(indices.max()) < distances.numel():
            self.found[call] = distances.reshape(-1)[indices].clone()
        return ()


class _Holding(_Kinked):
    """Takes elements back that are on another side than in the float64 run."""

    def __init__(self, nearest: Nearest) -> None:
        super().__init__(nearest)
        self.nearest = nearest

    def visit(self, call: int, distances: torch.Tensor) -> Sequence[int]:
        indices, before = self.nearest[call]
        if int(indices.max()) >= distances.numel():
            return ()
        return indices[distances.reshape(-1)[indices] * before < 0].tolist()


class _Moving(_Kinked):
    """Takes elements to the other side of their kinks, each as far as it is on its own."""

    def __init__(self, elements: Iterable[Element]) -> None:
        self.elements: dict[int, list[int]] = {}
        for element in elements:
            self.elements.setdefault(element.call, []).append(element.index)
        super().__init__(self.elements)

    def visit(self, call: int, distances: torch.Tensor) -> Sequence[int]:
        return self.elements[call]
