"""The classes of sizes that a set of points covers, and the points that cover most of the others."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from lowering.model import Symbol
from lowering.numerics.coverage import conditions
from lowering.numerics.coverage.conditions import Conditions
from lowering.sizes.ranges import round_up

Sizes = Mapping[str, int]

_CANDIDATES = 512
_NUMBERS = 48  # sizes beside constants of conditions that are tried of a symbol
# How much a class is worth that no point has yet: sizes at which programs are most often wrong come first.
_WORTH = {"0": 8, "1": 6, "equal": 4, "narrow": 4, "flat": 4, "2": 3, "max - 1": 3, "max": 2, "traced": 1, "condition": 5, "limit": 0.5}


@dataclass(frozen=True)
class Classes:
    """The classes of sizes of a program. tops: the largest size of each symbol. example: the traced sizes."""

    symbols: Mapping[str, Symbol]
    example: Sizes
    tops: Sizes
    conditions: Conditions = field(default_factory=Conditions)

    def classify(self, sizes: Sizes) -> dict[str, float]:
        """Return the classes that `sizes` belong to, each with its worth.

        Of a symbol: 0, 1, 2, max, max - 1 (one multiple below) and the traced size. Of two: both equal, both at their largest, one at its
        least and the other larger, one at its least and the other at its largest. Of the program: how each condition on sizes is decided,
        and at the limit of each.
        """
        found: dict[str, float] = {}
        for name, symbol in self.symbols.items():
            top, traced = self.tops[name], self.example[name]
            kinds = {"0": 0, "1": 1, "2": 2, "max": top, "max - 1": top - symbol.multiple_of, "traced": traced}
            found |= {f"{name} = {kind}": _WORTH[kind] for kind, size in kinds.items() if sizes[name] == size and symbol.admits(size)}
        for one, other in itertools.permutations(self.symbols, 2):
            if one < other and sizes[one] == sizes[other]:
                found[f"{one} = {other}"] = _WORTH["equal"]
            if one < other and sizes[one] == self.tops[one] and sizes[other] == self.tops[other]:
                found[f"{one} = max, {other} = max"] = _WORTH["max"]
            if sizes[one] == self.symbols[one].smallest and sizes[other] > self.symbols[other].smallest:
                found[f"{one} at its least, {other} larger"] = _WORTH["narrow"]
                if sizes[other] == self.tops[other]:
                    found[f"{one} at its least, {other} = max"] = _WORTH["flat"]
        found |= dict.fromkeys(self.conditions.limits(sizes), _WORTH["limit"])
        return found | dict.fromkeys(conditions.name_classes(self.conditions.at(sizes)), _WORTH["condition"])

    def candidates(self, admits: Callable[[Sizes], bool], seed: int) -> list[dict[str, int]]:
        """Return sizes that together belong to every class that is likely to have any, as far as `admits` takes them."""
        values = {name: sorted(set(self._list_sizes(name, symbol))) for name, symbol in self.symbols.items()}
        shared = set.intersection(*map(set, values.values())) if values else set()
        if len(self.symbols) > 1 and not shared:  # sizes that two symbols can share
            for one, other in itertools.combinations(self.symbols, 2):
                if (size := _find_common(self.symbols[one], self.symbols[other], self.tops[one], self.tops[other])) is not None:
                    values[one], values[other] = sorted({*values[one], size}), sorted({*values[other], size})
        count = math.prod(max(1, len(several)) for several in values.values())
        draw = random.Random(seed)
        combined = (itertools.product(*values.values()) if count <= _CANDIDATES
                    else (tuple(draw.choice(several) for several in values.values()) for _ in range(_CANDIDATES)))
        return [sizes for chosen in combined if admits(sizes := dict(zip(self.symbols, chosen, strict=True)))]

    def _list_sizes(self, name: str, symbol: Symbol) -> Iterator[int]:
        top = self.tops[name]
        sizes = [0, 1, 2, symbol.smallest, top, top - symbol.multiple_of, self.example[name]]
        near = [number + step for number in self.conditions.numbers for step in (-symbol.multiple_of, 0, symbol.multiple_of)]
        return (size for size in (*sizes, *near[:_NUMBERS]) if symbol.admits(size))

    def cover(self, taken: Sequence[Sizes], admits: Callable[[Sizes], bool], seed: int) -> Iterator[tuple[dict[str, int], set[str]]]:
        """Yield (sizes, the classes that no earlier ones have), in the order in which they cover most of what `taken` lacks."""
        candidates = self.candidates(admits, seed)
        worth = [self.classify(sizes) for sizes in candidates]
        covered = {name for sizes in taken for name in self.classify(sizes)}
        while candidates:
            gains = [sum(value for name, value in found.items() if name not in covered) for found in worth]
            best = max(range(len(candidates)), key=lambda index: (gains[index], -sum(candidates[index].values())))
            if gains[best] == 0:
                return
            fresh = worth[best].keys() - covered
            covered |= fresh
            yield candidates[best], fresh

    def missing(self, tried: Sequence[Sizes], admits: Callable[[Sizes], bool]) -> list[str]:
        """Return the classes that the ranges hold and none of `tried` belongs to."""
        there = {name for sizes in self.candidates(admits, 0) for name in self.classify(sizes)}
        return sorted(there.difference(*map(self.classify, tried)))


def _find_common(one: Symbol, other: Symbol, top: int, other_top: int) -> int | None:
    step = one.multiple_of * other.multiple_of
    size = round_up(max(one.smallest, other.smallest), step)
    return size if size <= min(top, other_top) and one.admits(size) and other.admits(size) else None
