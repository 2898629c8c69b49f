"""The declared ranges, as torch.export promises them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.export import ExportedProgram
from torch.utils._sympy.numbers import int_oo

from lowering.eager import inputs
from lowering.fx.dynamic_shapes import build_dynamic_shapes, round_examples
from lowering.model import Input, Model, Symbol
from lowering.model_checks import find_problems

IDENTITY = {"_target_": "torch.nn.Identity"}


class Relu(torch.nn.Module):
    """Elementwise on every input: no dim constrains another."""

    def forward(self, x: torch.Tensor, y: torch.Tensor, steps: int = 1) -> tuple[torch.Tensor, torch.Tensor]:
        return x.relu() * steps, y.relu()


Shape = tuple[int | str | None, ...]


def export(symbols: dict[str, Symbol], x: Shape, y: Shape = (3,), steps: int = 2) -> ExportedProgram:
    model = Model("relu", IDENTITY, {"x": Input("float32", x), "y": Input("float32", y)}, symbols, constants={"steps": steps})
    assert find_problems(model) == []
    example = inputs.make(model, model.examples())
    return torch.export.export(Relu(), (), {**example, **model.constants}, dynamic_shapes=build_dynamic_shapes(model), strict=False)


def dims(program: ExportedProgram, name: str) -> list[Any]:
    """(promised least, promised most or None) of each dim of a placeholder; an int where it is static."""
    value = next(node.meta["val"] for node in program.graph.nodes if node.op == "placeholder" and node.name == name)
    bounds = [program.range_constraints[size.node.expr] if isinstance(size, torch.SymInt) else size for size in value.shape]
    return [bound if isinstance(bound, int) else (int(bound.lower), end(bound.upper)) for bound in bounds]


def end(upper: Any) -> int | None:
    return None if upper == int_oo else int(upper)


@pytest.mark.parametrize(
    ("symbol", "promised"),
    [
        (Symbol(1, 64), (1, 64)),
        (Symbol(0, 64), (0, 64)),
        (Symbol(5, 6), (5, 6)),
        (Symbol(1, 512, multiple_of=8), (8, 512)),
        (Symbol(9, 100, multiple_of=8), (16, 96)),
        (Symbol(0, 100, multiple_of=8), (0, 96)),
        (Symbol(32, 256, multiple_of=32), (32, 256)),
    ],
)
def test_a_symbol_is_promised_over_exactly_its_sizes(symbol: Symbol, promised: tuple[int, int]) -> None:
    assert dims(export({"n": symbol}, ("n", 4)), "x") == [promised, 4]


def test_an_unbounded_symbol_has_no_upper_end() -> None:
    assert dims(export({"n": Symbol(3)}, ("n",)), "x") == [(3, None)]


def test_the_graph_knows_that_a_size_is_a_multiple() -> None:
    program = export({"n": Symbol(1, 64, multiple_of=8), "m": Symbol(1, 64)}, ("n", "2*n"), ("m",))
    sizes = {node.name: node.meta["val"].shape for node in program.graph.nodes if node.name in ("x", "y")}
    assert [size.node.expr % step for size, step in zip(sizes["x"], (8, 16), strict=True)] == [0, 0]
    assert sizes["y"][0].node.expr % 8 != 0


def test_a_symbol_in_two_shapes_is_one_symbol() -> None:
    module = export({"n": Symbol(1, 64)}, ("n",), ("n",)).module()
    with pytest.raises((AssertionError, RuntimeError)):
        module(x=torch.ones(4), y=torch.ones(5), steps=2)


def test_an_expression_is_derived_from_its_symbol() -> None:
    program = export({"n": Symbol(1, 10), "m": Symbol(1, 9, multiple_of=3)}, ("n", "2*n + 1", "n - 1"), ("m", "2*m + 1"))
    assert dims(program, "x") == [(1, 10), (3, 21), (0, 9)]
    assert dims(program, "y") == [(3, 9), (7, 19)]
    with pytest.raises((AssertionError, RuntimeError)):
        program.module()(x=torch.ones(4, 10, 3), y=torch.ones(3, 7), steps=2)


def test_independent_symbols_stay_independent() -> None:
    program = export({"n": Symbol(1, 10), "m": Symbol(1, 10)}, ("n", "m"), ("m",))
    program.module()(x=torch.ones(1, 9), y=torch.ones(9), steps=2)


def test_null_is_automatic_and_an_int_is_static() -> None:
    program = export({}, (None, 4), (3,))
    [flexible, static] = dims(program, "x")
    assert isinstance(flexible, tuple) and static == 4 and dims(program, "y") == [3]


@pytest.mark.parametrize(("symbol", "example"), [(Symbol(1, 512), 64), (Symbol(400, 4000), 1600), (Symbol(3, 3000, 3), 192),
                                                (Symbol(449, 500), 480)])  # fmt: skip
def test_a_round_example_is_divided_by_many_numbers_in_any_range(symbol: Symbol, example: int) -> None:
    model = Model("m", {}, {"x": Input("float32", ("n",))}, {"n": symbol})
    assert round_examples(model).symbols["n"].example == example
