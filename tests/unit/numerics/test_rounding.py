"""Tolerances: by dtype, by the rounding of each op, and declared by the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lowering import pipeline
from lowering.job import Job
from lowering.level import Level, Program
from lowering.model import Built, Input, Tolerance
from lowering.model_checks import find_problems
from lowering.numerics import comparison
from lowering.numerics.bench import Bench
from lowering.numerics.judging import perturbed, rounding
from lowering.numerics.judging.ancestry import Making, trace_results
from lowering.numerics.judging.perturbed import Perturbed
from lowering.numerics.judging.reruns import Reruns
from lowering.numerics.judging.rounding import Erring
from lowering.ops.sequences import scans
from lowering.stage import Silent
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from lowering.stages.verify import Verify
from tests.unit.models.verified_jobs import Never, Random, codes, exported, lowered, model

pytestmark = pytest.mark.usefixtures("without_iree")


class Half(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(6, 4).half()
        self.other = torch.nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"half": self.linear(x.half()).float(), "full": self.other(x), "moved": x.half().float().T if False else x.T}


class Brain(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(6, 4).bfloat16()

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": self.linear(x.bfloat16()).float().square().mean()}


def sample_rooms(run: Callable[[], list[torch.Tensor]], exact: list[torch.Tensor]) -> list[torch.Tensor]:
    """How far rounding to float32 takes each element, by four samples."""
    rooms = None
    for seed in range(4):
        rooms = rounding.spread(run, exact, torch.float32, seed, rooms)
    assert rooms is not None
    return rooms



def test_the_narrowest_float_on_the_way_to_each_result_decides_its_tolerance(tmp_path: Path) -> None:
    (tmp_path / "inference").mkdir()
    result = lowered(model(Half), tmp_path / "inference")
    assert result.outcome == "ok", result.problems
    held = {name: output["held_to"] for name, output in result.verify["points"][0]["levels"]["mhlo"]["outputs"].items()}
    assert held == {"half": "float16", "full": "float32", "moved": "float32"}
    (tmp_path / "training").mkdir()
    result = lowered(model(Brain, mode="training", low=2), tmp_path / "training")
    assert result.outcome == "ok", result.problems
    assert result.verify["points"][0]["levels"]["mhlo"]["outputs"]["loss"]["held_to"] == "bfloat16"


class Wide(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.randn(6, 6).bfloat16())

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x @ self.weight.T.float(), (x @ self.weight.float()).double()  # type: ignore[operator, union-attr]


def test_moving_and_widening_a_narrow_weight_rounds_nothing() -> None:
    program = exported(model(Wide))
    assert program.signature is not None
    assert trace_results(program.ir, program.signature) == (Making(torch.float32), Making(torch.float32))
    assert comparison.choose_deciding(torch.float64, torch.float32) is torch.float32


def test_rounding_of_long_sums_is_accepted_and_a_planted_error_is_not() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 40_000)
    x[0] -= x[0].mean()  # a sum close to zero, of terms that are not
    exact = [x.double().sum(-1) + torch.tensor([0.0, 0.0, 1e9], dtype=torch.float64)]
    room = rounding.spread(lambda: [x.double().sum(-1) + torch.tensor([0.0, 0.0, 1e9], dtype=torch.float64)], exact, torch.float32, 0)[0]
    got = torch.zeros(3)
    for column in x.T:
        got += column  # the order that errs most
    got[2] += 1e9
    assert comparison.is_nearer(got, got, exact[0], room)
    assert comparison.is_nearer(got, exact[0].float(), exact[0], room)
    for position in range(2):
        wrong = got.clone()
        wrong[position] += 1
        assert not comparison.is_nearer(wrong, exact[0].float(), exact[0], room)


def test_rounding_of_long_scans_is_accepted_and_a_planted_error_is_not() -> None:
    x = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    exact, got = x.double().cumsum(0), scans.cumsum(x, 0)
    rooms = sample_rooms(lambda: [x.double().cumsum(0)], [exact])
    room = perturbed.pool_distances(rooms[0])
    assert not comparison.is_nearer(got, exact.float(), exact)
    assert comparison.is_nearer(got, exact.float(), exact, room)
    assert not comparison.is_nearer(got + 1e-4 * x.abs().cumsum(0), exact.float(), exact, room)


def test_rounding_inside_of_fused_ops_is_imitated() -> None:
    torch.manual_seed(2)
    inputs = torch.tensor([[0.0, -11.5]]), torch.randn(1, 1, 8, 8), torch.randn(1, 400, 1, 2) * 1e-4, torch.randn(8, 3, 3)

    def run(dtype: torch.dtype) -> list[torch.Tensor]:
        scores, picture, places, matrices = (value.to(dtype) for value in inputs)
        return [scores.log_softmax(-1), torch.nn.functional.grid_sample(picture, places, align_corners=False), torch.linalg.inv(matrices)]

    exact, rounded = run(torch.float64), run(torch.float32)
    rooms = sample_rooms(lambda: run(torch.float64), exact)
    for got, wide, room in zip(rounded, exact, rooms, strict=True):
        assert comparison.is_nearer(got, wide.float(), wide, room)
        wrong = got + 1e-3 * wide.float()
        assert not comparison.is_nearer(wrong, wide.float(), wide, room)


def test_the_gradient_of_a_maximum_errs_as_what_it_is_made_of() -> None:
    given = torch.randn(6, 9, dtype=torch.float64, requires_grad=True)

    def run() -> list[torch.Tensor]:
        return list(torch.autograd.grad((given / 3).softmax(-1).amax(-1).sum() + torch.maximum(given / 3, given.flip(0) / 3).max(), given))

    (room,) = rounding.spread(run, run(), torch.float32, 0)
    assert 0 < float(room.max()) < 1e-5, "the largest element equals none of the others that err"


@pytest.mark.parametrize("options", [
    {"mode": "bicubic", "scale_factor": 1.7}, {"mode": "bilinear", "scale_factor": 0.6, "antialias": True},
    {"mode": "bicubic", "size": (37, 90), "align_corners": True}, {"mode": "bilinear", "scale_factor": 2.3},
], ids=str)  # fmt: skip
def test_resizing_errs_by_the_rounding_of_coordinates(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    picture, weights = torch.randn(4, 8, 48, 64), None

    def run(dtype: torch.dtype) -> list[torch.Tensor]:
        nonlocal weights
        given = picture.to(dtype, copy=True).requires_grad_()
        result = torch.nn.functional.interpolate(given, **options)
        weights = torch.randn(result.shape) if weights is None else weights
        return [result.detach(), *torch.autograd.grad(result, given, weights.to(dtype))]

    exact, rounded = run(torch.float64), run(torch.float32)
    rooms = sample_rooms(lambda: run(torch.float64), exact)
    for got, wide, room in zip(rounded, exact, rooms, strict=True):
        assert comparison.is_nearer(got, wide.float(), wide, rounding.FITTED * perturbed.pool_distances(room))
        assert float(room.median()) < 1e-4, "a coordinate that is off by a thousandth is found"


def test_a_spread_that_eager_itself_exceeds_is_fitted_to_it() -> None:
    exact, want = torch.tensor([1.0, 2.0]).double(), torch.tensor([1.0, 2.0 + 2e-6])
    spread = torch.tensor([1e-6, 1e-6]).double()
    assert rounding.fit(spread, want, exact)[0] == pytest.approx(2e-6, rel=0.1)
    assert rounding.fit(spread, want + 1, exact)[0] == pytest.approx(4e-6)


class Masked(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        masked = x + torch.tensor([0.0, 0.0, 0.0, 0.0, 0.0, -1e9])
        return masked if torch.compiler.is_exporting() else masked + torch.tensor([0.0, 1.0, 0.0, 0.0, 0.0, 0.0])


def test_an_element_that_is_off_beside_a_mask_is_a_mismatch(tmp_path: Path) -> None:
    result = lowered(model(Masked), tmp_path)
    assert result.outcome == "mismatch"
    assert "float64 sides with eager" in result.problems[0].cause


class Norm(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.BatchNorm2d(4, momentum=1.0)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"loss": self.norm(x - x.mean((0, 2, 3), keepdim=True)).square().mean()}


def test_running_means_close_to_zero_are_no_mismatch(tmp_path: Path) -> None:
    result = lowered(model(Norm, {"x": Input("float32", ("n", 4, 16, 16))}, low=2, mode="training"), tmp_path)
    assert result.outcome == "ok", result.problems


def test_an_artifact_is_compared_by_the_same_tolerances_and_without_its_random_results(tmp_path: Path) -> None:
    from lowering.numerics.delivery import artifact
    from lowering.stages.package import Package

    for name, kind in (("half", Half), ("random", Random)):
        (tmp_path / name).mkdir()
        stages = {"export": Export(), "torchscript": ToTorchScript(), "torch": ToTorchDialect(), "stablehlo": ToStableHLO(),
                  "mhlo": ToMHLO(), "verify": Verify(platforms=("cpu",), levels=("mhlo",), points=2, values=()), "package": Package()}
        result = pipeline.run(Job(model(kind), stages), tmp_path / name)
        assert result.outcome == "ok", result.problems
    half = artifact.execute(tmp_path / "half", {"n": 16}, compare=True).compared
    assert half is not None and all(found.agrees for found in half.values()) and set(half) == {"half", "full", "moved"}
    random = artifact.execute(tmp_path / "random", {"n": 16}, compare=True).compared
    assert random is not None and set(random) == {"kept", "still"}


@pytest.mark.parametrize(
    ("dtype", "tolerance", "places"),
    [("float32", Tolerance(1e-3, 1.0, "a table"), []), ("float32", Tolerance(float("nan"), -1.0), ["atol", "rtol"]),
     ("float16", Tolerance(0.0, 1.5), ["rtol"]),
     ("float32", Tolerance(float("inf"), 0.0), ["atol"]), ("flaot32", Tolerance(0.0, 0.0), [""])],
)  # fmt: skip
def test_useless_tolerances_are_problems_of_the_configuration(dtype: str, tolerance: Tolerance, places: list[str]) -> None:
    found = find_problems(model(Never, tolerances={dtype: tolerance}), "m")
    assert [problem.place for problem in found] == [f"m.tolerances.{dtype}{'.' if place else ''}{place}" for place in places]


def test_a_weakened_tolerance_is_a_warning_and_makes_the_job_unverified(tmp_path: Path) -> None:
    result = lowered(model(Never, tolerances={"float32": Tolerance(1e-3, 1e-4, "planted")}), tmp_path, values=())
    assert (result.outcome, codes(result)) == ("ok", {"tolerance_weakened"})
    assert result.unverified == "tolerances were weakened: float32 (planted)"


@pytest.mark.parametrize("mode", [Erring(torch.float32, 0), Perturbed(0)], ids=["float64", "eager"])
def test_runs_with_rounding_keep_conjugations(mode: Erring | Perturbed) -> None:
    x = torch.randn(2, 3, dtype=torch.complex128 if isinstance(mode, Erring) else torch.complex64,
                    generator=torch.Generator().manual_seed(0))

    def compute() -> list[torch.Tensor]:
        return [(x * x.conj()).real, x @ x.mH, x.conj() + 1, x.imag.neg() * 2, torch.stack([x.conj(), x]), x.conj().exp()]

    want = compute()
    with mode:
        got = compute()
    for one, other in zip(got, want, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


class Counted(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(6, 4)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"y": self.linear(x), "count": x.new_ones((), dtype=torch.int64) + 1, "z": torch.complex(self.linear(x), self.linear(-x))}


def test_mixtures_of_samples_reach_as_far_as_the_root_of_their_squares() -> None:
    built = Built(model(Counted), Counted())
    signature = Export().apply(Program(Level.MODEL, built), Silent()).signature
    assert signature is not None
    bench = Bench(built, signature)
    reruns = Reruns(bench.eager, bench.inputs({"n": 3}, 0))
    names = [result.name for result in bench.results]
    furthest, reach = reruns.measure_spread(torch.float32, 3), reruns.measure_reach(torch.float32, 3)
    assert furthest is not None and reach is not None
    apart = Reruns(bench.eager, reruns.given)
    first = apart.measure_spread(torch.float32, 0)
    assert first is not None
    y, z, count = (names.index(name) for name in ("y", "z", "count"))
    assert (first[y] <= furthest[y]).all() and (furthest[y] <= reach[y]).all() and (reach[y] <= 2.001 * furthest[y]).all()
    assert (furthest[z].imag <= reach[z].imag).all() and float(reach[count]) == 0
