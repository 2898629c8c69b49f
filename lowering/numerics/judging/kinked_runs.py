"""Modes in which a float64 run finds, reads, holds or moves the elements that are near a kink (see `kinks`)."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes

from lowering.numerics.judging import kinks
from lowering.numerics.running.watching import Watching

Nearest = Mapping[int, tuple[torch.Tensor, torch.Tensor]]  # by number of the op: flat indices of its operand, distances
Distances = Mapping[int, torch.Tensor]  # those of the same elements in another run

_KEPT = 64  # elements of each op that are nearest to a kink


@dataclass(frozen=True)
class Element:
    """An element near a kink. calls: the numbers of the ops of the run that read it; index: its flat index in their operands."""

    calls: tuple[int, ...]
    index: int


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


class FindingNearest(_Kinked):
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


class ReadingAgain(_Kinked):
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


class Holding(ReadingAgain):
    """Reads them too, and takes those back that are on another side than in the float64 run."""

    def visit(self, call: int, distances: torch.Tensor) -> Sequence[int]:
        super().visit(call, distances)
        indices, before = self.nearest[call]
        return indices[self.found[call] * before < 0].tolist() if call in self.found else ()


class Moving(_Kinked):
    """Takes elements to the other side of their kinks, each as far as it is on its own."""

    def __init__(self, elements: Iterable[Element]) -> None:
        self.elements: dict[int, list[int]] = {}
        for element in elements:
            for call in element.calls:
                self.elements.setdefault(call, []).append(element.index)
        super().__init__(self.elements)

    def visit(self, call: int, distances: torch.Tensor) -> Sequence[int]:
        return self.elements[call]
