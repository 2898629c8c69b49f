"""A gradient that differs because rounding took an activation across a kink is right; one that differs by more is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import pytest
import torch
from torch.nn import functional

from lowering.level import Level, Program
from lowering.model import Built, Input, Model, Symbol
from lowering.numerics.bench import Bench, Reference
from lowering.numerics.judging.ancestry import trace_results
from lowering.numerics.judging.crossings import Crossings
from lowering.numerics.running.runner import Tensors
from lowering.stage import Silent
from lowering.stages.export import Export

NEAR = 3e-8  # by which the activation of row 0 at unit 3 is off from zero: less than a sum of 64 products may err
ACROSS = 1e-6  # added to it, or taken off, it is on one side for certain, and other results hardly change


class Units(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Linear(64, 32), torch.nn.Linear(32, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.second(self.first(x).relu()).square().mean()


@pytest.fixture(scope="module")
def bench() -> Bench:
    torch.manual_seed(0)
    model = Model("units", {"_target_": f"{__name__}.Units"}, {"x": Input("float32", ("n", 64))}, {"n": Symbol(2, 64)},
                  mode="training", loss="output")  # fmt: skip
    module = Units()
    exported = Export().apply(Program(Level.MODEL, Built(model, module)), Silent())
    assert exported.signature is not None
    bench = Bench(Built(model, module), exported.signature, makings=trace_results(exported.ir, exported.signature))
    with torch.no_grad():
        exact = module.first.weight[3].double() @ bench.inputs({"n": 16}, 0)["x"][0].double()
        module.first.bias[3] = NEAR - exact
    return bench


def check(bench: Bench, run: Callable[[Tensors], Sequence[torch.Tensor]]) -> tuple[bool, set[str]]:
    given = bench.inputs({"n": 16}, 0)
    bench.noted.clear()
    found = bench.check(lambda _: tuple(run(given)), given, Reference(bench.eager(given)))
    return found.agrees, {code for code, _, _ in bench.noted}


def with_bias(bench: Bench, off: dict[int, float]) -> Callable[[Tensors], Sequence[torch.Tensor]]:
    """Eager with some biases of the first layer off."""
    def run(given: Tensors) -> Sequence[torch.Tensor]:
        bias = bench.built.module.first.bias  # type: ignore[union-attr]
        before = bias.detach().clone()
        try:
            with torch.no_grad():
                for unit, by in off.items():
                    bias[unit] += by
            return bench.eager(given)
        finally:
            with torch.no_grad():
                bias.copy_(before)

    return run


def test_an_activation_on_the_other_side_of_zero_explains_all_gradients_below_it(bench: Bench) -> None:
    below, above = (check(bench, with_bias(bench, {3: by})) for by in (-ACROSS, ACROSS))
    assert below[0] and above[0]
    assert below[1] | above[1] == {"verify_crossed"}, "eager is on one of the sides"


def test_an_activation_that_rounding_does_not_take_across_explains_nothing(bench: Bench) -> None:
    given = bench.inputs({"n": 16}, 0)
    active = bench.built.module.first(given["x"])[:, 5].detach()  # type: ignore[operator]
    further = float(active[active > 1e-3].min())
    assert not check(bench, with_bias(bench, {5: -further - 1e-7}))[0]
    assert not any(check(bench, with_bias(bench, {3: by, 5: -further - 1e-7}))[0] for by in (-ACROSS, ACROSS)), "hidden beside another"


def test_an_error_beside_a_crossing_is_found(bench: Bench) -> None:
    def run(given: Tensors, by: float) -> Sequence[torch.Tensor]:
        got = list(with_bias(bench, {3: by})(given))
        index = next(index for index, result in enumerate(bench.results) if result.name.endswith("first.weight"))
        got[index] = got[index] + 1e-3 * got[index].abs().max() * (torch.arange(32) == 7)[:, None]
        return got

    assert not any(check(bench, partial(run, by=by))[0] for by in (-ACROSS, ACROSS))


Place = tuple[int, int, int]
AT_NUMBERS: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], float]] = {
    "relu": (torch.relu, 0.0), "relu_": (lambda x: (x * 2).relu_(), 0.0), "relu6": (functional.relu6, 6.0),
    "leaky_relu": (functional.leaky_relu, 0.0), "hardtanh": (functional.hardtanh, -1.0), "hardswish": (functional.hardswish, 3.0),
    "hardsigmoid": (functional.hardsigmoid, -3.0), "abs": (torch.abs, 0.0), "selu": (functional.selu, 0.0),
    "softshrink": (functional.softshrink, -0.5), "hardshrink": (functional.hardshrink, 0.5), "clamp": (lambda x: x.clamp(-1, 0.5), 0.5),
    "threshold": (lambda x: functional.threshold(x, 0.2, 0.0), 0.2), "where": (lambda x: torch.where(x > 0.3, x, 2 * x), 0.3),
    "prelu": (lambda x: functional.prelu(x, torch.full((1,), 0.25, dtype=x.dtype)), 0.0),
}  # fmt: skip
AT_OTHERS: dict[str, tuple[Callable[[torch.Tensor], torch.Tensor], float, Place]] = {
    "maximum": (lambda x: torch.maximum(x, x.flip(0)), 3.0, (3, 2, 2)), "max": (lambda x: x.max(-1)[0], 3.0, (0, 2, 3)),
    "amax": (lambda x: x.amax(-1), 3.0, (0, 2, 3)), "amin": (lambda x: x.amin([0, 1, 2]), -4.0, (0, 3, 2)),
    "largest": (lambda x: x.max(), 4.0, (0, 3, 2)), "min": (lambda x: x.min(1)[0], -3.0, (0, 3, 2)),
    "pool1d": (lambda x: functional.max_pool1d(x, 3, 2, 1), 3.0, (0, 2, 3)),
    "pool2d": (lambda x: functional.max_pool2d(x, (3, 2), 2, (1, 0), (1, 2), True), 3.0, (0, 2, 4)),
    "pool3d": (lambda x: functional.max_pool3d(x[None], 2), 3.0, (1, 3, 2)),
}  # fmt: skip
PLACE: Place = (0, 2, 2)


@pytest.mark.parametrize("name", [*AT_NUMBERS, *AT_OTHERS])
def test_gradients_of_every_op_with_a_kink_are_explained_by_moving_an_element_across(name: str) -> None:
    torch.manual_seed(0)
    function, number, *others = (AT_NUMBERS | AT_OTHERS)[name]
    given = torch.randn(4, 6, 7, dtype=torch.float64)
    for place in others:
        given[place] = number  # type: ignore[index]

    def run(by: float) -> list[torch.Tensor]:
        off = torch.zeros_like(given)
        off[PLACE] = number + by - given[PLACE]
        leaf = (given + off).requires_grad_()
        result = function(leaf * 1.0)
        return [result.detach(), *torch.autograd.grad((3 * result).sin().sum(), leaf)]

    here, across = run(1e-9), run(-1e-9)
    assert (here[1] - across[1]).abs().max() > 1e-3
    moved = Crossings(lambda: run(1e-9), here, torch.float32).explain(across, [1], [1e-8])
    assert moved is not None
    torch.testing.assert_close(moved[1], across[1], rtol=0, atol=1e-6)
    assert Crossings(lambda: run(1e-9), here, torch.float32).explain(here, [1], [1e-8]) is here, "nothing to explain"


def test_an_activation_that_several_ops_read_is_one_element() -> None:
    given = torch.tensor([1e-9, -1e-9, 1.0, -1.0], dtype=torch.float64, requires_grad=True)

    def run() -> list[torch.Tensor]:
        result = ((given + 1.0) - 1.0).relu()
        return [result.detach(), *torch.autograd.grad(result.sum(), given)]

    crossings = Crossings(run, run(), torch.float32)
    assert sorted((element.index, len(element.calls)) for element in crossings.elements) == [(0, 2), (1, 1)], "relu and its backward"


def test_a_shift_of_the_weights_shows_which_of_many_activations_crossed() -> None:
    draw = torch.Generator().manual_seed(0)
    weight, x = (torch.randn(*shape, generator=draw, dtype=torch.float64) for shape in ((40, 16), (8, 16)))
    weight.requires_grad_()
    near = 1e-9 * torch.arange(1.0, 41.0, dtype=torch.float64)
    bias = near - (weight @ x[0]).detach()  # each unit is near zero for row 0
    runs = 0

    def run(crossed: Sequence[int] = ()) -> list[torch.Tensor]:
        nonlocal runs
        runs += 1
        off = torch.zeros_like(bias)
        off[list(crossed)] = -2 * near[list(crossed)]
        result = (x @ weight.T + bias + off).relu()
        return list(torch.autograd.grad(result.sin().sum(), weight))

    @contextmanager
    def shift(offs: Mapping[int, torch.Tensor]) -> Iterator[None]:
        before = weight.detach().clone()
        weight.data.add_(offs[0])
        yield
        weight.data.copy_(before)

    exact, across = run(), run((20, 37))
    crossings = Crossings(run, exact, torch.float32, shift, frozenset({0}))
    assert len(crossings.elements) >= 40
    runs = 0
    moved = crossings.explain(across, [0], [1e-6])
    assert moved is not None and runs < 20, "not one for each element"
    torch.testing.assert_close(moved[0], across[0], rtol=0, atol=1e-6)
    assert torch.equal(run()[0], exact[0]), "the weights are as they were"


def test_a_brief_search_ends_where_no_element_explains_anything() -> None:
    draw = torch.Generator().manual_seed(0)
    given = 1e-9 * torch.randn(64, generator=draw, dtype=torch.float64)
    runs = 0

    def run(place: int | None = None) -> list[torch.Tensor]:
        nonlocal runs
        runs += 1
        off = torch.zeros_like(given)
        if place is not None:
            off[place] = -2 * given[place]
        leaf = (given + off).requires_grad_()
        return list(torch.autograd.grad(((leaf + 1.0) - 1.0).relu().sum(), leaf))

    exact = run()
    counts = {}
    for is_brief in (True, False):
        crossings = Crossings(run, exact, torch.float32)
        assert len(crossings.elements) == 64
        runs = 0
        crossings.explain([exact[0] + 0.5], [0], [1e-8], is_brief=is_brief)
        counts[is_brief] = runs
    assert counts[True] < 20 < 64 <= counts[False]
