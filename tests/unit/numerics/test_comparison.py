"""What counts as the same result."""

from __future__ import annotations

import math

import pytest
import torch

from lowering.model import Tolerance
from lowering.numerics.comparison import (
    EXACT,
    Comparison,
    choose_deciding,
    compare,
    find_tolerance,
    is_nearer,
    list_weakened,
    scale_tolerance,
)

NAN, INF = math.nan, math.inf


def compared(got: torch.Tensor, want: torch.Tensor) -> Comparison:
    return compare(got, want, find_tolerance(want.dtype, {}, want))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2])
def test_rounding_of_the_dtype_agrees_and_twenty_times_the_tolerance_does_not(dtype: torch.dtype) -> None:
    want = torch.linspace(0.5, 2, 64, dtype=torch.float64)
    tolerance = find_tolerance(dtype, {}, want.to(dtype))
    assert compared(want.to(dtype), want.to(dtype)).agrees
    assert compared((want * (1 + tolerance.rtol / 4)).to(dtype), want.to(dtype)).agrees
    wrong = compared((want * (1 + 20 * tolerance.rtol)).to(dtype), want.to(dtype))
    assert wrong.wrong == "values"
    assert wrong.differing == 64


def test_the_worst_element_is_named_with_both_values() -> None:
    want = torch.ones(3, 4)
    got = want.clone()
    got[1, 2], got[2, 3] = 1.5, 3.0
    found = compared(got, want)
    assert (found.wrong, found.differing, found.worst, found.max_abs) == ("values", 2, (2, 3), 2.0)
    assert "2 of 12 elements differ" in found.detail
    assert "got 3, eager gives 1" in found.detail


def test_the_tolerance_of_small_results_is_small() -> None:
    want = torch.full((1000,), 1e-5)
    assert compared(want * 1.5, want).wrong == "values"
    assert compared(torch.full((10,), 1e-9), torch.zeros(10)).agrees
    assert scale_tolerance(Tolerance(1e-5, 1e-4), want).atol == pytest.approx(1e-8)


def test_an_override_is_recorded_as_written() -> None:
    want = torch.full((10,), 1e-5)
    loose = {"float32": Tolerance(1e-3, 0.0, "a table lookup")}
    assert compare(want * 2, want, find_tolerance(torch.float32, loose, want)).agrees
    indices = {"int64": Tolerance(1, 0.0, "ties of argmax")}
    assert compare(torch.tensor([4]), torch.tensor([5]), find_tolerance(torch.int64, indices, want)).agrees


@pytest.mark.parametrize(
    ("got", "agrees"),
    [([NAN, INF, -INF, 1], True), ([0, INF, -INF, 1], False), ([NAN, -INF, -INF, 1], False), ([NAN, NAN, -INF, 1], False),
     ([NAN, INF, -INF, NAN], False)],
)  # fmt: skip
def test_nan_and_infinities_have_the_indices_of_eagers(got: list[float], agrees: bool) -> None:
    found = compared(torch.tensor(got), torch.tensor([NAN, INF, -INF, 1]))
    assert found.agrees is agrees
    assert found.max_abs == 0.0
    if not agrees:
        assert found.wrong == "non-finite"


def test_the_first_misplaced_nan_is_named() -> None:
    want = torch.zeros(2, 5)
    got = want.clone()
    got[1, 3] = NAN
    found = compared(got, want)
    assert found.worst == (1, 3)
    assert "first at [1, 3]: got nan, eager gives 0" in found.detail


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int8, torch.uint8, torch.bool])
def test_integers_are_exact(dtype: torch.dtype) -> None:
    want = torch.tensor([0, 1, 1]).to(dtype)
    assert compared(want.clone(), want).agrees
    found = compared(torch.tensor([0, 1, 0]).to(dtype), want)
    assert (found.wrong, found.worst, found.max_abs) == ("values", (2,), 1.0)


def test_integers_that_float64_cannot_tell_apart_differ() -> None:
    want = torch.tensor([2**62, 2**62])
    found = compared(torch.tensor([2**62, 2**62 + 1]), want)
    assert (found.wrong, found.differing, found.worst) == ("values", 1, (1,))


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0, 2)])
def test_empty_tensors_agree_when_their_shapes_do(shape: tuple[int, ...]) -> None:
    assert compared(torch.empty(shape), torch.empty(shape)).agrees
    assert compared(torch.empty(*shape, 1), torch.empty(shape)).wrong == "shape"


def test_a_shape_that_would_broadcast_is_wrong() -> None:
    found = compared(torch.ones(1, 3), torch.ones(2, 3))
    assert (found.wrong, found.detail) == ("shape", "is [1, 3], eager gives [2, 3]")


def test_another_dtype_is_wrong_even_with_equal_values() -> None:
    found = compared(torch.ones(3, dtype=torch.float64), torch.ones(3))
    assert (found.wrong, found.detail) == ("dtype", "is float64, eager gives float32")


def test_complex_numbers_are_compared_in_both_parts() -> None:
    want = torch.tensor([[1 + 2j, 3 - 1j]])
    assert compared(want.clone(), want).agrees
    found = compared(torch.tensor([[1 + 2j, 3 + 1j]]), want)
    assert (found.wrong, found.worst) == ("values", (0, 1))


def test_scalars_compare() -> None:
    assert compared(torch.tensor(1.0), torch.tensor(1.0)).agrees
    assert compared(torch.tensor(1.5), torch.tensor(1.0)).worst == ()


def test_tensors_larger_than_a_chunk_are_seen_to_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lowering.numerics.comparison._CHUNK", 7)
    want = torch.ones(5, 8)
    got = want.clone()
    got[4, 6] = 2
    found = compared(got, want)
    assert (found.wrong, found.differing, found.worst) == ("values", 1, (4, 6))


def test_exact_tolerance_refuses_the_smallest_step() -> None:
    want = torch.ones(3)
    assert compare(torch.nextafter(want, want + 1), want, EXACT).wrong == "values"


def test_float64_accepts_an_error_like_eagers_and_no_larger() -> None:
    exact = torch.linspace(1, 2, 100, dtype=torch.float64)
    eager = (exact + 1e-3 * torch.sin(exact * 100)).float()
    assert is_nearer((exact - 1e-3 * torch.sin(exact * 100)).float(), eager, exact)
    assert not is_nearer((exact - 1e-2 * torch.sin(exact * 100)).float(), eager, exact)
    one_off = eager.clone()
    one_off[3] += 0.1
    assert not is_nearer(one_off, eager, exact)


def test_an_element_that_is_right_to_some_units_passes_where_that_of_eager_is_exact_by_chance() -> None:
    exact = torch.linspace(1, 2, 1000, dtype=torch.float64)
    eager = exact.float()
    eager[0] += 1e-3
    assert is_nearer((exact * (1 + 4e-7)).float(), eager, exact)
    assert not is_nearer((exact * (1 + 1e-5)).float(), eager, exact)


def test_a_large_element_makes_no_room_for_the_others() -> None:
    exact = torch.full((64,), 1.3, dtype=torch.float64)
    exact[0] = 1e9
    eager = exact.float()
    eager[0] += 64  # as far off as a rounding of its own takes it
    wrong = eager.clone()
    wrong[5] += 1
    assert compared(wrong, eager).wrong == "values"
    assert not is_nearer(wrong, eager, exact)
    small = torch.full((64,), 1e-6)
    small[0] = 1e9
    off = small.clone()
    off[5] = 6e-6
    assert compared(off, small).differing == 1


def test_the_room_that_rounding_needs_is_each_elements_own() -> None:
    exact = torch.tensor([0.0, 100.0, 1e9], dtype=torch.float64)
    room = torch.tensor([1e-4, 1e-3, 100.0], dtype=torch.float64)
    assert is_nearer((exact + 0.9 * room).double(), exact, exact, room)
    for position in range(2):
        off = exact.clone()
        off[position] += 1.1 * room[position]
        assert not is_nearer(off, exact, exact, room)


@pytest.mark.parametrize(
    ("dtype", "narrowest", "held_to"),
    [(torch.float32, torch.bfloat16, torch.bfloat16), (torch.float32, torch.float64, torch.float32),
     (torch.float64, torch.float32, torch.float32), (torch.bfloat16, torch.float16, torch.bfloat16),
     (torch.complex64, torch.float16, torch.float16), (torch.int64, torch.float16, torch.int64), (torch.float32, None, torch.float32)],
)  # fmt: skip
def test_the_narrowest_float_on_the_way_decides(dtype: torch.dtype, narrowest: torch.dtype | None, held_to: torch.dtype) -> None:
    assert choose_deciding(dtype, narrowest) is held_to


def test_an_override_of_the_results_own_dtype_comes_before_that_of_the_narrowest() -> None:
    want = torch.ones(3)
    loose = {"float32": Tolerance(0.5, 0.0), "bfloat16": Tolerance(0.1, 0.0)}
    assert find_tolerance(torch.float32, loose, want, torch.bfloat16).atol == 0.5
    assert find_tolerance(torch.float32, {"bfloat16": Tolerance(0.1, 0.0)}, want, torch.bfloat16).atol == 0.1
    assert list_weakened(loose | {"float16": Tolerance(1e-3, 1e-3)}) == {"float32": "", "bfloat16": ""}
