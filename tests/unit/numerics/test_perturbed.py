"""Results are held to what rounding explains, element by element and slice by slice, not to a flat share of them."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lowering.level import Level, Program
from lowering.model import Built, Input, Model, Symbol
from lowering.numerics import noise
from lowering.numerics.bench import Bench
from lowering.numerics.judging import perturbed
from lowering.numerics.judging.ancestry import trace_results
from lowering.numerics.reference import Reference
from lowering.numerics.running.runner import make_runner
from lowering.stage import Silent
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript

Change = Callable[[torch.Tensor], torch.Tensor]


class Layer(torch.nn.Module):
    """A layer in halves and one in float32, and a loss of terms that cancel."""

    def __init__(self) -> None:
        super().__init__()
        self.short, self.full = torch.nn.Linear(64, 32).bfloat16(), torch.nn.Linear(64, 32)
        torch.nn.init.normal_(self.short.weight, std=0.3)  # into the tail of GELU

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        half = torch.nn.functional.gelu(self.short(x.bfloat16()))
        return {"half": half, "wide": half.float(), "full": self.full(x).tanh(), "cancelled": (half - half.flip(0)).sum()}


@pytest.fixture(scope="module")
def exported() -> Program:
    torch.manual_seed(0)
    declared = Model("layer", {"_target_": f"{__name__}.Layer"}, {"x": Input("float32", ("n", 64))}, {"n": Symbol(2, 64)})
    built = Program(Level.MODEL, Built(declared, Layer().eval()))
    return Export().apply(built, Silent())


@pytest.fixture(scope="module")
def bench(exported: Program) -> Bench:
    top = exported.at(Level.MODEL)
    assert exported.signature is not None and top is not None
    return Bench(top.ir, exported.signature, makings=trace_results(exported.ir, exported.signature))


def disagreeing(bench: Bench, name: str, change: Change, is_close: bool = True) -> dict[str, str]:
    """The results that do not agree when `change` makes one of them wrong, with the cause."""
    given = bench.inputs({"n": 40}, 0)
    want = bench.eager(given)
    names = [result.name for result in bench.results]
    got = tuple(change(value) if label == name else value for label, value in zip(names, want, strict=True))
    found = bench.check(lambda given: got, given, Reference(want, is_close=is_close))
    return {label: compared.detail for label, compared in found.outputs.items() if not compared.agrees}


def column(by: float) -> Change:
    return lambda value: torch.cat([value[:, :3], value[:, 3:4] * (1 + by), value[:, 4:]], 1)


@pytest.mark.parametrize("shape", [(), (1,), (3, 4), (2, 0)])
def test_whole_numbers_are_found_at_every_rank(shape: tuple[int, ...]) -> None:
    assert noise.is_whole(torch.ones(shape)) and noise.is_whole(torch.ones(shape, dtype=torch.complex64))
    assert noise.is_whole(torch.full(shape, 0.5)) == (0 in shape)


@pytest.mark.parametrize(("name", "change"), [
    ("half", lambda value: value * 1.015), ("half", lambda value: value * 1.03),
    ("half", lambda value: value + 0.01), ("wide", lambda value: value * 1.015),
    ("wide", column(0.02)), ("full", lambda value: value * (1 + 1e-5)), ("full", column(5e-5)),
])  # fmt: skip
def test_errors_within_the_tolerance_that_rounding_does_not_explain_are_found(name: str, change: Change, bench: Bench) -> None:
    found = disagreeing(bench, name, change)
    assert found.keys() == {name}
    assert "that rounding causes" in found[name] or "allowed" in found[name]


@pytest.mark.parametrize(("name", "change"), [
    ("half", lambda value: torch.nextafter(value, torch.full_like(value, 9.0))), ("cancelled", lambda value: value + 0.02),
    ("full", lambda value: value * (1 + 2e-7)), ("wide", lambda value: value * (1 + 1e-3)),
])  # fmt: skip
def test_what_rounding_explains_agrees(name: str, change: Change, bench: Bench) -> None:
    assert disagreeing(bench, name, change) == {}


def test_what_is_lowered_rounds_no_more_than_eager_may(exported: Program, bench: Bench) -> None:
    program = exported
    for stage in (ToTorchScript(), ToTorchDialect(), ToStableHLO(), ToMHLO()):
        program = stage.apply(program, Silent())
    given = bench.inputs({"n": 40}, 0)
    found = bench.check(make_runner(program, bench.devices["cpu"]), given, Reference(bench.eager(given), is_close=True))
    assert found.agrees, found


def test_float32_is_examined_where_asked(bench: Bench) -> None:
    assert disagreeing(bench, "full", lambda value: value * (1 + 1e-5), is_close=False) == {}


def test_copies_of_one_element_are_no_sample_of_many() -> None:
    exact, deviation = torch.randn(32, 64, dtype=torch.float64), torch.ones(32, 64, dtype=torch.float64)
    off = torch.where(torch.arange(64) == 5, 3.0, 0.5).double().expand(32, 64)  # one column of 64 by a little more than usual
    assert "those at 5 of dim 1" in perturbed.describe_excess(off, deviation, 1.5, exact)
    copies = exact[:1].expand(32, 64) * (1 + 1e-15 * torch.arange(32).double().unsqueeze(1))
    assert perturbed.describe_excess(off, deviation, 1.5, copies) == ""
    assert "all elements" in perturbed.describe_excess(off * 4, deviation, 1.5, copies)


@pytest.mark.parametrize("dim", [0, 1])
def test_an_excess_is_found_before_it_is_described(dim: int) -> None:
    off, deviation = torch.rand(32, 48, dtype=torch.float64), torch.ones(32, 48, dtype=torch.float64)
    assert not perturbed.exceeds(off, deviation, 1.5)
    assert not perturbed.describe_excess(off, deviation, 1.5)
    off.select(dim, 7)[::2] += 2.0
    assert perturbed.exceeds(off, deviation, 1.5)
    assert f"those at 7 of dim {dim}" in perturbed.describe_excess(off, deviation, 1.5)
    assert not perturbed.exceeds(off[:1, :8], deviation[:1, :8], 1.5)


def test_large_elements_make_no_room_for_small_ones_and_small_deviations_are_shared() -> None:
    errors = torch.rand(64, 32, dtype=torch.float64) * 1e-3
    errors[:, 5] *= 1e6
    errors[9, 9] = 0.0
    room = perturbed.estimate_deviation(errors.square(), 1, torch.zeros(64, 32))
    assert 3e-4 < room[9, 9] < 7e-4
    assert room[:, :5].max() <= 1e-3 and room[:, 5].max() > 100


def test_rounding_breaks_what_is_near_a_pole_and_no_masked_row() -> None:
    scores = torch.tensor([[0.0, 1.0], [torch.finfo(torch.float32).min] * 2])

    def run() -> list[torch.Tensor]:
        return [torch.tensor([0.5, 8.0]).tanh().atanh(), scores.softmax(-1), (scores * 1.0 - scores.amax(-1, keepdim=True)).exp()]

    found = [sum(results) > 0 for results in zip(*(perturbed.find_broken(run, run(), seed) for seed in range(8)), strict=True)]
    assert found[0].tolist() == [False, True]
    assert not found[1].any() and not found[2].any()


def test_complex_numbers_are_split_into_their_parts() -> None:
    value = torch.tensor([1 + 2j, 3 - 4j]).conj()
    assert perturbed.split(value).tolist() == [[1, -2], [3, 4]]
    assert perturbed.measure_distances(value, value + 1j).tolist() == [[0, 1], [0, 1]]


def test_whole_numbers_are_found_in_every_rank() -> None:
    assert all(noise.is_whole(torch.full(shape, 2.0)) for shape in ((), (3,), (2, 3)))
    assert not any(noise.is_whole(torch.full(shape, 2.5)) for shape in ((), (3,), (2, 3)))
    assert not noise.is_whole(torch.tensor(2 + 0.5j))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_noise_depends_on_the_bits_of_each_element_alone(dtype: torch.dtype) -> None:
    x = torch.randn(3, 70_000, generator=torch.Generator().manual_seed(0)).to(dtype)
    whole = noise.draw(x, 5)
    for view in (lambda t: t.mT, lambda t: t[1:], lambda t: t[:, ::3], lambda t: t[:, 7:9], lambda t: t.expand(2, 3, 70_000)):
        assert torch.equal(noise.draw(view(x), 5), view(whole))
    assert noise.draw(x.mT, 5).stride() == x.mT.stride(), "a view of the result is what it is without noise"
    assert -1 <= float(whole.min()) < -0.99 and 0.99 < float(whole.max()) < 1 and abs(float(whole.mean())) < 0.01
    assert not torch.equal(noise.draw(x, 6), whole)
