"""Long size expressions become short ones that are equal at all sizes of their range."""

from __future__ import annotations

import pytest
import sympy
from torch.utils._sympy.functions import CeilToInt, FloorDiv, IntTrueDiv, Max, Min, Mod

from lowering.symbols.tracing.closed_forms import find_closed_form, keep_sizes_short

S = sympy.Symbol("s0", positive=True, integer=True)
PADDED = S + Max(0, 2 * CeilToInt(IntTrueDiv(S, sympy.Integer(2))) + 1 - S)


@pytest.mark.parametrize(("expr", "short"), [
    (PADDED, 2 * FloorDiv(S + 1, 2) + 1),
    (Mod(7 - Mod(S, 7), 7), 6 - Mod(S + 6, 7)),
    (Min(S, S + Mod(7 - Mod(S, 7), 7)), S),
    (FloorDiv(FloorDiv(S + 1, 2) + 1, 2) + FloorDiv(S + 3, 4), 2 * FloorDiv(S + 3, 4)),
    (Max(0, FloorDiv(S, 100) - 3), sympy.Integer(0)),
])
def test_a_form_equals_its_expression_at_each_size(expr: sympy.Expr, short: sympy.Expr) -> None:
    found = find_closed_form(expr, S, 1, 200)
    assert found is not None and len(str(found)) <= len(str(short))
    assert all(found.subs(S, size) == expr.subs(S, size) == short.subs(S, size) for size in range(1, 201))


@pytest.mark.parametrize("expr", [FloorDiv(3 * S, 2) + Mod(S, 3), Max(S, 2 * S - 50), S * FloorDiv(S, 2)])
def test_other_sizes_keep_their_expression(expr: sympy.Expr) -> None:
    assert find_closed_form(expr, S, 1, 200) is None


def test_quotients_of_quotients_round_down_by_negative_numbers_too() -> None:
    assert FloorDiv(FloorDiv(sympy.Symbol("before"), 2), -2).subs("before", 33) == -9  # torch's, which is wrong: 33 // 2 // -2 is -8
    with keep_sizes_short(1):
        quotient = FloorDiv(FloorDiv(S, 2), -2)
    assert [quotient.subs(S, size) for size in range(64)] == [size // 2 // -2 for size in range(64)]
