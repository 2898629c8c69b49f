"""What the scaling benchmark says of costs that are known."""

from __future__ import annotations

import pytest

from benchmarks.scaling import INPUTS, fan, fit_line


def test_linear_and_quadratic_growth_are_distinguished() -> None:
    depths = [4.0, 8.0, 16.0, 32.0, 64.0, 96.0]
    line = fit_line(depths, [1.0 + 0.1 * depth for depth in depths])
    assert line.slope == pytest.approx(0.1)
    assert line.start == pytest.approx(1.0)
    assert line.explained == pytest.approx(1.0)
    assert line.exponent == pytest.approx(1.0)
    square = fit_line(depths, [1.0 + 0.01 * depth**2 for depth in depths])
    assert square.explained < 0.97


@pytest.mark.parametrize("symbols", [1, 5, 16])
def test_the_same_inputs_go_by_any_number_of_symbols(symbols: int) -> None:
    declared = fan(symbols)
    assert len(declared["inputs"]) == INPUTS
    assert {declared["inputs"][name]["shape"][0] for name in declared["inputs"]} == set(declared["symbols"])
