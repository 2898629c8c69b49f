"""Long size expressions become short ones that are equal at all sizes of their range."""

from __future__ import annotations

import pytest
import sympy
import torch
from torch.export import Dim
from torch.utils._sympy.functions import CeilToInt, FloorDiv, IntTrueDiv, Max, Min, Mod

from lowering.symbols.tracing.closed_forms import drop_idle_operands, find_closed_form, keep_sizes_short

S, T = sympy.symbols("s0 s1", positive=True, integer=True)
U = sympy.Symbol("u0", integer=True)
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


@pytest.mark.parametrize(("expr", "kept"), [
    (Min(128 * S + 128, 512 * S + 512), 128 * S + 128),
    (Max(128 * S + 128, 512 * S + 512), 512 * S + 512),
    (Min(S * T, S * T + T, 3 * S**2 * T + S * T, S + 5), Min(S * T, S + 5)),
    (Min(S + 1, 2 * S), Min(S + 1, 2 * S)),  # equal at 1, and the other way round at 0
    (Max(S - T, S), S),
    (Min(128 * U + 128, 512 * U + 512), Min(128 * U + 128, 512 * U + 512)),  # a number that may be negative
])
def test_operands_that_never_decide_a_minimum_are_dropped(expr: sympy.Expr, kept: sympy.Expr) -> None:
    assert drop_idle_operands(expr) == kept
    points = [{S: s, T: t, U: u} for s in range(5) for t in range(5) for u in range(-3, 3)]
    assert all(expr.subs(point) == kept.subs(point) for point in points)


class SharedKeys(torch.nn.Module):
    """Scores of four heads, in which two heads share keys of which one is new."""

    def forward(self, query: torch.Tensor, keys: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        keys = torch.cat([keys, new], 2)
        shared = keys[:, :, None].expand(-1, -1, 2, -1, -1).reshape(1, 4, keys.shape[2], 8)
        return query @ shared.transpose(2, 3)


def test_keys_that_heads_share_are_exported_at_once() -> None:
    arguments = torch.rand(1, 4, 1, 8), torch.rand(1, 2, 5, 8), torch.rand(1, 2, 1, 8)
    with keep_sizes_short(1):
        program = torch.export.export(SharedKeys(), arguments, dynamic_shapes=({}, {2: Dim("past", min=2, max=64)}, {}))
    other = torch.rand(1, 2, 9, 8)
    assert torch.equal(program.module()(arguments[0], other, arguments[2]), SharedKeys()(arguments[0], other, arguments[2]))


def test_quotients_of_quotients_round_down_by_negative_numbers_too() -> None:
    assert FloorDiv(FloorDiv(sympy.Symbol("before"), 2), -2).subs("before", 33) == -9  # torch's, which is wrong: 33 // 2 // -2 is -8
    with keep_sizes_short(1):
        quotient = FloorDiv(FloorDiv(S, 2), -2)
    assert [quotient.subs(S, size) for size in range(64)] == [size // 2 // -2 for size in range(64)]
