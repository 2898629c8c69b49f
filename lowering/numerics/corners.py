"""Which classes of sizes a set of points covers, and the points that cover most of what is left."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence

from lowering.model import Symbol
from lowering.sizes.ranges import round_up

Sizes = Mapping[str, int]

_CANDIDATES = 512
# How much a class is worth that no point has yet: sizes at which programs are most often wrong come first.
_WORTH = {"0": 8, "1": 6, "equal": 4, "narrow": 4, "flat": 4, "2": 3, "max - 1": 3, "max": 2, "traced": 1}


def classes(symbols: Mapping[str, Symbol], example: Sizes, tops: Sizes, sizes: Sizes) -> dict[str, int]:
    """The classes that `sizes` belong to, each with its worth.

    Of a symbol: 0, 1, 2, max, max - 1 (one multiple below) and the traced size; of two: both equal, one at its least and the other larger,
    one at its least and the other at its largest. tops: the largest size of each symbol.
    """
    found: dict[str, int] = {}
    for name, symbol in symbols.items():
        kinds = {"0": 0, "1": 1, "2": 2, "max": tops[name], "max - 1": tops[name] - symbol.multiple_of, "traced": example[name]}
        found |= {f"{name} = {kind}": _WORTH[kind] for kind, size in kinds.items() if sizes[name] == size and symbol.admits(size)}
    for one, other in itertools.permutations(symbols, 2):
        if one < other and sizes[one] == sizes[other]:
            found[f"{one} = {other}"] = _WORTH["equal"]
        if sizes[one] == symbols[one].smallest and sizes[other] > symbols[other].smallest:
            found[f"{one} at its least, {other} larger"] = _WORTH["narrow"]
            if sizes[other] == tops[other]:
                found[f"{one} at its least, {other} = max"] = _WORTH["flat"]
    return found


def cover(symbols: Mapping[str, Symbol], example: Sizes, tops: Sizes, taken: Sequence[Sizes], admits: Callable[[Sizes], bool],
          seed: int) -> tuple[Iterator[dict[str, int]], set[str]]:
    """(sizes in the order in which they cover most of what `taken` lacks, the classes that are there to be covered)."""
    values = {name: sorted({size for size in (0, 1, 2, symbol.smallest, tops[name], tops[name] - symbol.multiple_of, example[name])
                            if symbol.admits(size)}) for name, symbol in symbols.items()}
    shared = set.intersection(*map(set, values.values())) if values else set()
    if len(symbols) > 1 and not shared:  # sizes that two symbols can share
        for one, other in itertools.combinations(symbols, 2):
            if (size := _common(symbols[one], symbols[other], tops[one], tops[other])) is not None:
                values[one], values[other] = sorted({*values[one], size}), sorted({*values[other], size})
    count = math.prod(max(1, len(several)) for several in values.values())
    draw = random.Random(seed)
    combined = (itertools.product(*values.values()) if count <= _CANDIDATES
                else (tuple(draw.choice(several) for several in values.values()) for _ in range(_CANDIDATES)))
    candidates = [sizes for chosen in combined if admits(sizes := dict(zip(symbols, chosen, strict=True)))]
    worth = [classes(symbols, example, tops, sizes) for sizes in candidates]
    have = {name for sizes in taken for name in classes(symbols, example, tops, sizes)}
    there = have.union(*worth)

    def chosen() -> Iterator[dict[str, int]]:
        covered = set(have)
        while candidates:
            gains = [sum(value for name, value in found.items() if name not in covered) for found in worth]
            best = max(range(len(candidates)), key=lambda index: (gains[index], -sum(candidates[index].values())))
            if gains[best] == 0:
                return
            covered |= worth[best].keys()
            yield candidates[best]

    return chosen(), there


def _common(one: Symbol, other: Symbol, top: int, other_top: int) -> int | None:
    step = one.multiple_of * other.multiple_of
    size = round_up(max(one.smallest, other.smallest), step)
    return size if size <= min(top, other_top) and one.admits(size) and other.admits(size) else None
