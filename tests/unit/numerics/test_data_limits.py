"""Inputs at which data reach limits: those of branches and loops, and capacities."""

from __future__ import annotations

import torch

from lowering.model import Input, Model, Symbol
from lowering.numerics.coverage import data_limits, special_values
from lowering.numerics.coverage.data_limits import Limits
from lowering.numerics.running import counted
from lowering.signature import Argument, Result, Signature

ROWS = Model("rows", {"_target_": "torch.nn.Identity"}, {"x": Input("float32", ("n", 4))}, {"n": Symbol(1, 16)})


def double(given: dict[str, torch.Tensor], limit: float = 3.0) -> int:
    """Double the first row until its largest element exceeds a limit, and return how often."""
    total, count = given["x"][0].clone(), 0
    while count < 8 and bool(total.abs().amax() < limit):
        total, count = total * 2, count + 1
    return count


def test_scaled_inputs_reach_the_limit_of_a_loop_on_both_sides() -> None:
    found = Limits()
    given = {"x": torch.tensor([[0.5, -0.1, 0.2, 0.3]])}
    tried = list(data_limits.approach(double, ROWS, given, found))
    assert found.list_unreached() == []
    assert any(double(scaled) != double(scaled, limit=3.5) for scaled in tried)
    assert any(double(scaled) != double(scaled, limit=2.5) for scaled in tried)


def test_a_limit_on_the_size_of_data_is_reached_with_both_signs() -> None:
    def signed(given: dict[str, torch.Tensor]) -> int:
        return int(given["x"][0].amax() < 3)

    tried = list(data_limits.approach(double, ROWS, {"x": torch.tensor([[0.5, -0.1, 0.2, 0.3]])}, Limits()))
    assert any(bool(scaled["x"].abs().amax() < 3) != signed(scaled) for scaled in tried), "abs left out shows"


def test_limits_that_scales_do_not_reach_are_named() -> None:
    found = Limits()
    list(data_limits.approach(lambda given: bool(torch.sigmoid(given["x"]).sum() > 100), ROWS, {"x": torch.ones(2, 4)}, found))
    assert found.list_unreached() == ["data beside the limit 100 of a branch or loop"]


def test_as_many_elements_as_a_capacity_holds_are_selected() -> None:
    declared = Model("chosen", {"_target_": "torch.nn.Identity"}, {
        "x": Input("float32", ("n",)), "mask": Input("bool", ("n",), "ones"), "share": Input("float32", ("n",), {"uniform": [0, 1]})},
        {"n": Symbol(1, 16)})  # fmt: skip
    given = {"x": torch.randn(9, generator=torch.Generator().manual_seed(0)), "mask": torch.ones(9, dtype=torch.bool),
             "share": torch.rand(9)}
    chosen = special_values.select(declared, given, 5)
    signature = Signature((Argument("input", "x", "float32", ("n",)),),
                          (Result("output", "rows", "float32", ("u0",)), Result("count", "u0", "int64", value="n - 4")))
    for mask in (chosen["x"] > 0.5, chosen["mask"], chosen["share"] > 0.5):
        assert mask.tolist() == [True] * 5 + [False] * 4
        assert counted.find_full(signature, [given["x"][mask]], {"n": 9}) == {"u0"}
        assert counted.find_full(signature, [given["x"][mask]], {"n": 10}) == set()
