"""Where levels are compared."""

from __future__ import annotations

from typing import Any

import pytest

from lowering.eager.inputs import choose_flexible_sizes
from lowering.model import Input, Model, Symbol
from lowering.numerics.coverage.points import Budget, are_all, choose_points, find_declined, list_untried
from lowering.numerics.coverage.relations import list_outside
from lowering.numerics.coverage.space import Space
from lowering.signature import Argument, Result, Signature
from lowering.sizes import evaluation as sizes
from lowering.sizes.ranges import Bound

LARGE = Budget(1 << 40)


def space(symbols: dict[str, Symbol], shape: tuple[Any, ...], guards: tuple[str, ...] = (), dims: tuple[Any, ...] | None = None,
          more: dict[str, Bound] | None = None) -> Space:
    model = Model("m", {}, {"x": Input("float32", shape)}, symbols)
    bounds = {name: Bound(symbol.min, symbol.max, symbol.multiple_of) for name, symbol in symbols.items()}
    taken = dims if dims is not None else shape
    argument, result = Argument("input", "x", "float32", taken), Result("output", "y", "float32", taken)
    return Space.build(model, Signature((argument,), (result,), bounds | (more or {}), guards))


def test_corners_and_a_point_off_every_multiple_and_random_ones() -> None:
    batch_seq = space({"batch": Symbol(1, 64), "seq": Symbol(1, 512, 8)}, ("batch", "seq"))
    found = choose_points(batch_seq, 6, LARGE)
    by_kind = {point.kind: point.sizes for point in found}
    assert len(found) == 6
    assert by_kind["lower"] == {"batch": 1, "seq": 8}
    assert by_kind["upper"] == {"batch": 64, "seq": 512}
    assert by_kind["off multiples"]["batch"] % 2 == 1
    assert by_kind["off multiples"]["seq"] % 16 == 8
    assert all(batch_seq.admits(point.sizes) for point in found)


def test_no_corner_and_no_random_point_repeats_a_traced_size() -> None:
    near = space({"batch": Symbol(5, 9, example=5), "seq": Symbol(2, 64, example=64)}, ("batch", "seq"))
    for seed in range(20):
        for point in (point for point in choose_points(near, 5, LARGE, seed) if point.kind != "mixed"):
            assert point.sizes["batch"] != 5
            assert point.sizes["seq"] != 64


def test_equal_seeds_give_equal_points() -> None:
    wide = space({"n": Symbol(1, 10_000)}, ("n",))
    assert choose_points(wide, 8, LARGE, 3) == choose_points(wide, 8, LARGE, 3)
    assert choose_points(wide, 8, LARGE, 3) != choose_points(wide, 8, LARGE, 4)


def test_a_budget_of_elements_caps_the_upper_corner_and_visits_each_maximum_alone() -> None:
    large = space({"batch": Symbol(1, 64), "seq": Symbol(1, 512)}, ("batch", "seq", 100))
    found = choose_points(large, 4, Budget(400_000))
    by_kind = {point.kind: point for point in found}
    assert "capped by 400000 elements" in by_kind["upper"].note
    assert by_kind["edge batch"].sizes == {"batch": 64, "seq": 1}
    assert by_kind["edge seq"].sizes == {"batch": 1, "seq": 512}
    assert all(large.elements(point.sizes) <= 400_000 for point in found)
    assert large.elements(by_kind["upper"].sizes) > 300_000


def test_an_upper_corner_that_a_budget_caps_does_not_depend_on_maxima_beyond_it() -> None:
    ranges = [space({"batch": Symbol(1, 16), "seq": Symbol(1, most)}, ("batch", "seq", 100)) for most in (128, 512, 2048)]
    corners = [point for each in ranges for point in choose_points(each, 4, Budget(100_000)) if point.kind == "upper"]
    assert len(corners) == 3
    assert corners[0] == corners[1] == corners[2]
    assert corners[0].sizes["batch"] == 16
    assert ranges[0].elements(corners[0].sizes) > 90_000


def test_a_budget_below_the_traced_sizes_caps_the_upper_corner() -> None:
    tight = space({"n": Symbol(1, 4096, example=2000)}, ("n",))
    upper = next(point for point in choose_points(tight, 4, Budget(1000)) if point.kind == "upper")
    assert 250 <= upper.sizes["n"] <= 500


def test_a_budget_of_seconds_stops_the_growth_before_it_is_exceeded() -> None:
    slow = space({"n": Symbol(1, 1 << 20)}, ("n",))
    asked: list[int] = []

    def seconds(sizes: Any) -> float:
        asked.append(sizes["n"])
        return sizes["n"] / 1000

    upper = next(point for point in choose_points(slow, 4, Budget(LARGE.elements, 1.0), 0, seconds) if point.kind == "upper")
    assert max(asked) <= 1000
    assert 400 <= upper.sizes["n"] <= 1000
    assert upper.note == "capped by 1 CPU s of eager"


def test_the_last_doublings_are_not_run_where_the_corner_is_within_the_budget() -> None:
    quick = space({"n": Symbol(1, 1000, example=10)}, ("n",))
    asked: list[int] = []

    def seconds(sizes: Any) -> float:
        asked.append(sizes["n"])
        return sizes["n"] / 10_000

    for budget, last, top in ((1.0, 160, 1000), (0.2, 320, 1000), (0.05, 320, 320)):
        asked.clear()
        upper = next(point for point in choose_points(quick, 4, Budget(LARGE.elements, budget), 0, seconds) if point.kind == "upper")
        assert (max(asked), upper.sizes["n"]) == (last, top)


def test_no_corner_is_taken_from_sizes_at_which_eager_did_not_run() -> None:
    refused = space({"n": Symbol(1, 1000, example=200)}, ("n",), guards=("Ne(n, 200)",))
    upper = next(point for point in choose_points(refused, 4, Budget(LARGE.elements, 1.0), 0, lambda sizes: sizes["n"] / 500)
                 if point.kind == "upper")
    assert (upper.sizes["n"], upper.note) == (400, "capped by 1 CPU s of eager")


def test_guards_hold_at_every_point() -> None:
    halved = space({"n": Symbol(2, 1000)}, ("n",), guards=("n % 2 == 0", "Ne(n, 500)"))
    found = choose_points(halved, 6, LARGE)
    assert len(found) >= 5
    assert all(point.sizes["n"] % 2 == 0 for point in found)


def test_flexible_dims_vary_when_they_stayed_dynamic_and_stay_when_they_did_not() -> None:
    free = space({}, (None, None, None), dims=("x_0", 43, "2*x_0"), more={"x_0": Bound(0, None)})
    found = choose_points(free, 4, LARGE)
    assert len({point.sizes["x_0"] for point in found}) == 4
    assert all(point.sizes["x_0"] >= 2 for point in found)
    assert free.arguments({"x_0": 9}) == {"x[0]": 9, "x[1]": 43, "x[2]": 18}
    assert set(free.flexible) == set(choose_flexible_sizes(free.model))


def test_a_model_without_symbols_has_one_point() -> None:
    assert [point.sizes for point in choose_points(space({}, (3, 4)), 4, LARGE)] == [{}]


def test_a_narrow_range_gives_what_it_has() -> None:
    found = choose_points(space({"n": Symbol(2, 4)}, ("n",)), 10, LARGE)
    assert {point.sizes["n"] for point in found} <= {2, 3, 4}
    assert len(found) == len({point.sizes["n"] for point in found}) >= 2


def test_outside_breaks_one_bound_at_a_time() -> None:
    found = dict(list_outside(space({"batch": Symbol(2, 64), "seq": Symbol(8, 512, 8, example=24)}, ("batch", "seq"))))
    assert [(sizes["batch"], sizes["seq"]) for sizes in found.values()] == [(1, 24), (65, 24), (5, 0), (5, 520), (5, 25)]
    assert "seq must be a multiple of 8, and is 25" in found


@pytest.mark.parametrize("most", [2**31 - 1, 2**31, 2**33])
def test_no_size_beyond_those_that_hlo_reads_is_tried_outside(most: int) -> None:
    assert not list(list_outside(space({"n": Symbol(0, most)}, ("n",))))


@pytest.mark.parametrize(
    ("expression", "value"),
    [(7, 7), ("s", 12), ("2*s + 1", 25), ("s//8", 1), ("s/4", 3), ("Max(1, s - 20)", 1), ("FloorDiv(s, 5)", 2), ("s**2", 144),
     ("s % 8 == 4", True), ("Eq(Mod(s, 8), 0)", False), ("3 <= s <= 11", False), ("not (s == 12) or s > 2", True), ("-s", -12)],
)  # fmt: skip
def test_dims_and_guards_evaluate(expression: int | str, value: int | bool) -> None:
    found = sizes.evaluate(expression, {"s": 12})
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("expression", ["t + 1", "L['x'].size()[0] == 3", "s.real", "open('f')", "s +", "s % 0 == 0"])
def test_what_cannot_be_evaluated_says_so(expression: str) -> None:
    with pytest.raises(sizes.Unknown):
        sizes.evaluate(expression, {"s": 12})


def test_sizes_that_the_guards_decline_are_found_once_a_guard() -> None:
    guarded = space({"seq": Symbol(2, 64, 2)}, ("seq",), ("Eq(Mod(seq, 4), 0)", "Ne(seq, 64)"))
    found = find_declined(guarded)
    assert [(point.sizes, guard) for point, guard in found] == [({"seq": 2}, "Eq(Mod(seq, 4), 0)"), ({"seq": 64}, "Ne(seq, 64)")]
    assert not any(guarded.admits(point.sizes) for point, _ in found)


def test_guards_that_hold_in_the_whole_range_decline_nothing() -> None:
    assert find_declined(space({"seq": Symbol(2, 64)}, ("seq",), ("Ge(seq, 2)",))) == []


def test_mixed_points_combine_the_corners_of_two_symbols() -> None:
    both = space({"batch": Symbol(1, 64, example=5), "seq": Symbol(0, 512, example=7)}, ("batch", "seq"))
    found = choose_points(both, 12, LARGE)
    sizes = [(point.sizes["batch"], point.sizes["seq"]) for point in found]
    assert {(1, 512), (64, 0)} <= set(sizes)
    assert any(one == other for one, other in sizes)
    assert any(one == 1 and other > 1 for one, other in sizes)
    assert {1, 2, 63, 64, 5} <= {one for one, _ in sizes} and {0, 1, 2, 511, 512, 7} <= {other for _, other in sizes}
    assert list_untried(both, found) == []
    assert all(both.admits(point.sizes) for point in found)


def test_few_points_are_no_more_than_asked_and_leave_classes_that_are_listed() -> None:
    both = space({"batch": Symbol(1, 64, example=5), "seq": Symbol(1, 512, example=7)}, ("batch", "seq"))
    found = choose_points(both, 4, LARGE)
    assert [point.kind for point in found] == ["lower", "upper", "off multiples", "mixed"]
    assert "seq = max - 1" in list_untried(both, found)
    assert not set(list_untried(both, found)) & {"batch = 1", "batch = max"}


def test_every_size_of_a_small_range_is_tried_before_the_traced_one() -> None:
    guards = ("Eq(Mod(n, 7), 3)",)
    assert [point.sizes["n"] for point in choose_points(space({"n": Symbol(2, 12, example=10)}, ("n",), guards), 4, LARGE)] == [10, 3]
    wide = space({"n": Symbol(2, 1 << 20, example=17), "m": Symbol(2, 1 << 20, example=19)}, ("n", "m"), ("Eq(n*m, 323)",))
    assert [(point.kind, point.sizes) for point in choose_points(wide, 4, LARGE)] == [("mixed", {"n": 17, "m": 19})]
    never = space({"n": Symbol(2, 12, example=10)}, ("n",), ("Eq(n, 99)",))
    assert choose_points(never, 4, LARGE) == []


def test_points_are_all_when_the_range_holds_no_more() -> None:
    narrow = space({"n": Symbol(2, 4)}, ("n",))
    assert are_all(narrow, choose_points(narrow, 10, LARGE))
    assert not are_all(narrow, choose_points(narrow, 10, LARGE)[:2])
    assert not are_all(space({"n": Symbol(2, 10_000_000)}, ("n",)), [])


def test_ranges_that_hold_the_same_sizes_share_the_point_off_every_multiple() -> None:
    """Jobs that differ in ranges only then have one program there, and XLA compiles it once with its default options."""
    wide, narrow = (space({"batch": Symbol(1, 16), "seq": Symbol(1, most)}, ("batch", "seq", 4096)) for most in (512, 64))
    found = [{point.kind: point for point in choose_points(each, 5, Budget(1 << 22))} for each in (wide, narrow)]
    assert all(each["upper"].note for each in found)
    assert found[0]["off multiples"] == found[1]["off multiples"]
    small = {point.kind: point for point in choose_points(wide, 5, Budget(1 << 17))}
    assert wide.elements(small["off multiples"].sizes) <= wide.elements(small["upper"].sizes)
