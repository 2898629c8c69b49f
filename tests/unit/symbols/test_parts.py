"""The widest part of declared ranges in which conditions hold."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from lowering.sizes.parsing import parse
from lowering.sizes.ranges import Bound, Range
from lowering.symbols.conditions import parts


def widest(ranges: dict[str, tuple[int, int | None, int]], *conditions: str) -> dict[str, Bound] | None:
    export: Any = SimpleNamespace(choices={name: (Range(low, high), step) for name, (low, high, step) in ranges.items()})
    known = [(term, [name for name in ranges if name in set(term.symbols())]) for term in map(parse, conditions)]
    return parts.find_widest(known, export)


@pytest.mark.parametrize(("ranges", "conditions", "expected"), [
    ({"n": (1, 64, 1)}, ["n % 2 == 0"], {"n": Bound(2, 64, 2)}),
    ({"n": (1, 65, 1)}, ["n % 2 == 0", "n // 2 != 1"], {"n": Bound(4, 64, 2)}),
    ({"n": (1, 64, 1)}, ["n != 1"], {"n": Bound(2, 64)}),
    ({"n": (1, None, 1)}, ["n != 1"], {"n": Bound(2, None)}),
    ({"n": (8, 512, 8)}, ["n % 16 == 0"], {"n": Bound(16, 512, 16)}),
    ({"n": (1, 100000, 1)}, ["n > 1000"], None),  # see below
    ({"n": (1, 64, 1), "k": (1, 30, 1)}, ["n >= k"], {"n": Bound(30, 64)}),
    ({"h": (32, 96, 1), "w": (32, 96, 1)}, ["h % 4 == 0", "w % 4 == 0"], {"h": Bound(32, 96, 4), "w": Bound(32, 96, 4)}),
    ({"n": (1, 64, 1)}, ["n + 1 > n"], {}),
])
def test_the_widest_part(ranges: dict[str, tuple[int, int | None, int]], conditions: list[str], expected: dict[str, Bound] | None) -> None:
    found = widest(ranges, *conditions)
    if expected is None:  # of many sizes not all are tried, and the end of the part is one that is
        assert found is not None and 1000 < found["n"].min < 20000 and found["n"].max == 100000
    else:
        assert found == expected


@pytest.mark.parametrize("conditions", [["n == 41"], ["n == k"], ["k == 2 * n"], ["n * k == 12"], ["n != n"]])
def test_there_is_no_part_of_single_sizes(conditions: list[str]) -> None:
    assert widest({"n": (1, 64, 1), "k": (1, 30, 1)}, *conditions) is None


def test_a_part_as_yaml() -> None:
    assert parts.spell({"n": Bound(2, 64, 2), "k": Bound(3, None)}) == "n: {min: 2, max: 64, multiple_of: 2}, k: {min: 3, max: null}"


@pytest.mark.parametrize(("conditions", "expected"), [
    (["-total + seq + past <= 0", "total <= seq + past", "past + seq <= total", "n > 2"], ["total == seq + past"]),
    (["2*a >= b", "a != b", "a <= 4"], ["2 * a >= b", "a != b"]),
    (["n <= 4"], []),
])
def test_relations_of_several_symbols(conditions: list[str], expected: list[str]) -> None:
    terms = [parse(condition) for condition in conditions]
    assert parts.list_relations([(term, sorted(set(term.symbols()))) for term in terms]) == expected
