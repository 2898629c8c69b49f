"""Choice of the points at which levels are compared, and of sizes that a program must refuse."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from lowering.model import Symbol
from lowering.numerics.coverage import conditions
from lowering.numerics.coverage.corners import Sizes
from lowering.numerics.coverage.space import Point, Space, find_largest

# Sizes that no tile, vector or block width divides.
_ODD = (13, 29, 7, 53, 11, 19, 37, 3, 61, 101, 17, 5, 23, 31, 43)

# How often the traced sizes are doubled at most.
_DOUBLINGS = 32.0

# Of the number of elements, in the time of a run: attention is quadratic in one of two dims.
_POWER = 1.5

# By how many times more elements a corner is taken from one measured run, without runs between.
_LEAP = 8.0

# How far sizes are drawn in search of those that the guards decline.
_DRAWN = 256

# Points taken beyond those that are asked for, as long as each shows another way of a condition on sizes.
_CONDITIONS = 4

# Ranges of so many sizes are tried one by one when guards decline most of them.
_ENUMERATED = 4096

OFF_MULTIPLES = "off multiples"  # kind of a point

@dataclass(frozen=True)
class Budget:
    """Limits of the upper corner: elements of inputs and results, and CPU seconds of one eager run."""

    elements: int = 1 << 21
    seconds: float = 0.25


def choose_points(space: Space, count: int, budget: Budget, seed: int = 0, seconds: Callable[[Sizes], float] | None = None) -> list[Point]:
    """Return `count` points or more where the range has them: lower corner, upper corner, one off every multiple, edges, mixed, random.

    The corners have no symbol at its traced size where the range allows another. Mixed points combine the classes of sizes that no other
    point has (see `corners`); some more than `count` are taken as long as each shows another way of a condition on sizes. The upper corner
    is capped by the budget, its seconds only when `seconds` measures a run. A point that was capped says by what, and then the maximum of
    each symbol is visited with the others small. Where guards leave fewer points, every size of a small range is tried, and at last the
    traced sizes.
    """
    if not space.symbols:
        return [Point("example", {})]
    lower = Point("lower", _move_away(space, space.box(0.0)))
    upper = _find_upper_corner(space, budget, seconds)
    odd = _list_off_multiples(space, space.box(1.0))  # of the declared ranges, so that jobs with narrower ones have the same point
    if space.elements(odd) > space.elements(upper.sizes):
        odd = _list_off_multiples(space, upper.sizes)
    found = [lower, upper, Point(OFF_MULTIPLES, odd)]
    if upper.note:
        found += [edge for edge in _list_edges(space, lower.sizes) if space.elements(edge.sizes) <= budget.elements]
    found = _drop_duplicates([point for point in found if space.admits(point.sizes)])
    room = max(space.elements(upper.sizes) if upper.note else budget.elements, space.elements(lower.sizes))

    def fits(sizes: Sizes) -> bool:
        return space.admits(sizes) and space.elements(sizes) <= room

    for sizes, fresh in space.classes().cover([point.sizes for point in found], fits, seed):
        is_condition = any(name.startswith(conditions.PREFIX) for name in fresh)
        if len(found) >= count + (_CONDITIONS if is_condition else 0) and found[-1].kind == "mixed":
            continue
        found = _drop_duplicates([*found, Point("mixed", sizes)])
    draw = random.Random(seed)
    for _ in range(64 * count):
        if len(found) >= count:
            break
        drawn = _move_away(space, {name: _draw(symbol, upper.sizes[name], draw) for name, symbol in space.symbols.items()})
        if fits(drawn):
            found = _drop_duplicates([*found, Point("random", drawn)])
    if len(found) < count:
        found = _drop_duplicates([*found,
                                  *(Point("random", sizes) for sizes in itertools.islice(filter(fits, _list_all(space)), count))])[:count]
    return found if found or not space.admits(space.example) else [Point("traced", dict(space.example))]


def list_untried(space: Space, tried: Sequence[Point]) -> list[str]:
    """Return the classes of sizes (see `corners`) that the ranges hold and none of `tried` belongs to."""
    return space.classes().missing([point.sizes for point in tried], space.admits) if space.symbols else []


def are_all(space: Space, tried: Sequence[Point]) -> bool:
    """Return whether the ranges hold no other sizes than those of `tried`."""
    if not space.symbols:
        return True
    known = {tuple(sorted(point.sizes.items())) for point in tried}
    return _count_combinations(space) <= _ENUMERATED and all(tuple(sorted(sizes.items())) in known for sizes in _list_all(space)
                                                       if space.admits(sizes))


def _count_combinations(space: Space) -> int:
    return math.prod(find_largest(symbol) // symbol.multiple_of - symbol.smallest // symbol.multiple_of + 1
                     for symbol in space.symbols.values())


def _list_all(space: Space) -> Iterator[dict[str, int]]:
    """Return all sizes of a range that has few; of a larger one none."""
    if _count_combinations(space) <= _ENUMERATED:
        ranges = [range(symbol.smallest, find_largest(symbol) + 1, symbol.multiple_of) for symbol in space.symbols.values()]
        yield from (dict(zip(space.symbols, chosen, strict=True)) for chosen in itertools.product(*ranges))


def find_declined(space: Space, seed: int = 0) -> list[tuple[Point, str]]:
    """Return each guard that some sizes inside the ranges break, with the first such sizes among corners, edges and random sizes."""
    if not space.signature.guards or not space.symbols:
        return []
    lower, upper, draw = space.box(0.0), space.box(1.0), random.Random(seed)
    tried = [Point("lower", lower), Point("upper", upper), Point(OFF_MULTIPLES, _list_off_multiples(space, upper)),
             *_list_edges(space, lower)]
    tops = {name: min(upper[name], _DRAWN) for name in space.symbols}
    tried += [Point("random", {name: _draw(symbol, tops[name], draw) for name, symbol in space.symbols.items()}) for _ in range(64)]
    found: dict[str, Point] = {}
    for point in tried:
        if guard := space.broken_guard(point.sizes):
            found.setdefault(guard, point)
    return [(point, guard) for guard, point in found.items()]


def _find_upper_corner(space: Space, budget: Budget, seconds: Callable[[Sizes], float] | None) -> Point:
    """Return the largest corner within the budgets, found by doubling from the traced sizes so that nothing far too large is ever run.

    The last doublings are not run if the time of a run shows that the corner is within the budget.
    """
    top, note = space.box(1.0), ""
    if space.elements(top) > budget.elements:
        top, note = _grow(space, budget.elements), f"capped by {budget.elements} elements"
    top = _move_away(space, top)
    if seconds is None:
        return Point("upper", top, note)
    current = dict(space.example)
    while current != top:
        taken = 0.0 if space.broken_guard(current) else seconds(current)  # eager may not run at sizes that the program refuses
        step = {name: min(top[name], symbol.largest(2 * current[name])) if top[name] > current[name] else top[name]
                for name, symbol in space.symbols.items()}
        leap = _compute_growth(space, current, top)
        if 0.0 < taken * leap <= budget.seconds and leap <= _LEAP**_POWER:  # nothing is known where eager did not run
            break
        growth = _compute_growth(space, current, step)
        if taken * growth > budget.seconds and min(taken, seconds(current)) * growth > budget.seconds:  # what else ran must not decide
            return Point("upper", _move_away(space, current), f"capped by {budget.seconds:g} CPU s of eager")
        current = step
    return Point("upper", top, note)


def _compute_growth(space: Space, sizes: Sizes, larger: Sizes) -> float:
    """Return how many times longer a run at larger sizes takes, about."""
    return float(max(1.0, space.elements(larger) / max(1, space.elements(sizes))) ** _POWER)


def _grow(space: Space, most: int) -> dict[str, int]:
    """Return the largest sizes with at most so many elements that are reached from the traced sizes in proportion.

    Maxima beyond them do not matter, so that jobs that differ in these have the same sizes. Where the traced sizes have more elements, the
    sizes are those at a share of all ranges.
    """
    is_scaled = space.elements(space.example) <= most
    place: Callable[[float], dict[str, int]] = space.scale if is_scaled else space.box
    low, high = 0.0, _DOUBLINGS if is_scaled else 1.0
    for _ in range(24):
        middle = (low + high) / 2
        low, high = (middle, high) if space.elements(place(middle)) <= most else (low, middle)
    return place(low)


def _move_away(space: Space, sizes: Sizes) -> dict[str, int]:
    """Return `sizes` with every symbol at its traced size moved to the next allowed size."""
    moved = {}
    for name, symbol in space.symbols.items():
        steps = (0,) if sizes[name] != space.example[name] else (1, -1, 2, -2, 0)
        candidates = [sizes[name] + step * symbol.multiple_of for step in steps]
        moved[name] = next((size for size in candidates if symbol.admits(size)), sizes[name])
    return moved


def _list_off_multiples(space: Space, upper: Sizes) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, symbol in space.symbols.items():
        allowed = [size for odd in _ODD if symbol.admits(size := odd * symbol.multiple_of) and size <= max(upper[name], symbol.smallest)]
        fresh = [size for size in allowed if size != space.example[name]]
        found[name] = next((size for size in fresh if size not in found.values()), (fresh or allowed or [upper[name]])[0])
    return found


def _list_edges(space: Space, lower: Sizes) -> Iterator[Point]:
    for name, symbol in space.symbols.items():
        if symbol.max is not None:
            yield Point(f"edge {name}", {**lower, name: find_largest(symbol)})


def _draw(symbol: Symbol, upper: int, draw: random.Random) -> int:
    step = symbol.multiple_of
    low = symbol.smallest
    return low + draw.randint(0, max(0, upper - low) // step) * step


def _drop_duplicates(found: list[Point]) -> list[Point]:
    first: dict[tuple[tuple[str, int], ...], Point] = {}
    for point in found:
        first.setdefault(tuple(sorted(point.sizes.items())), replace(point, sizes=dict(point.sizes)))
    return list(first.values())
