"""Verdicts of the stage `verify` that numbers alone do not give: random results, equal elements, special values, rounding, copies, gaps."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lowering import files, pipeline
from lowering.job import Job
from lowering.level import Level, Program
from lowering.model import Built, Input, Model, Symbol, Tolerance
from lowering.model_checks import find_problems
from lowering.numerics import comparison, iree, rounding, tensor_files
from lowering.numerics.ancestry import Making, makings
from lowering.numerics.runner import Eager
from lowering.numerics.ties import Picks
from lowering.record.result import JobResult
from lowering.stage import Silent
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from lowering.stages.verify import Verify

ROWS = {"x": Input("float32", ("n", 6))}


@pytest.fixture(autouse=True)
def without_iree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iree, "available", lambda: False)


def model(kind: type[torch.nn.Module], inputs: dict[str, Input] | None = None, low: int = 1, high: int = 16, **settings: Any) -> Model:
    return Model(kind.__name__, {"_target_": f"{__name__}.{kind.__name__}"}, inputs or ROWS, {"n": Symbol(low, high)}, **settings)


def lowered(declared: Model, folder: Path, **options: Any) -> JobResult:
    stages = {"export": Export(), "torchscript": ToTorchScript(), "torch": ToTorchDialect(), "stablehlo": ToStableHLO(), "mhlo": ToMHLO(),
              "verify": Verify(platforms=("cpu",), **{"levels": ("mhlo",), **options})}
    return pipeline.run(Job(declared, stages), folder)


def codes(result: JobResult) -> set[str]:
    return {remark.code for remark in result.warnings if remark.stage == "verify"}


def exported(declared: Model) -> Program:
    return Export().apply(Program(Level.MODEL, declared), Silent())


class Random(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        dropout = torch.nn.functional.dropout
        return {"noisy": x + torch.randn_like(x), "kept": 2 * x, "dropped": dropout(torch.ones_like(x), 0.3, True), "still": dropout(x, 0.3, False)}


def test_random_results_are_compared_by_their_distribution_and_the_others_by_value(tmp_path: Path) -> None:
    result = lowered(model(Random), tmp_path)
    assert (result.outcome, codes(result)) == ("ok", {"results_random"})
    assert result.verify["random"] == ["noisy", "dropped"]
    assert result.unverified == ""


class Scaled(torch.nn.Module):
    """Draws numbers that are 1.5 times as far apart in eager as in the program."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + torch.randn_like(x) * (1 if torch.compiler.is_exporting() else 1.5)


def test_random_results_of_another_distribution_are_a_mismatch(tmp_path: Path) -> None:
    result = lowered(model(Scaled), tmp_path)
    assert result.outcome == "mismatch"
    assert "random float32 numbers of another distribution" in result.problems[0].cause


class Constant(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        drawn = torch.zeros_like(x) if torch.compiler.is_exporting() else torch.rand_like(x) * 0
        return drawn + torch.rand_like(x) * 0 + (1 if torch.compiler.is_exporting() else 2)


def test_elements_of_random_results_that_never_vary_are_compared_by_value(tmp_path: Path) -> None:
    assert "does not vary, and is not what eager always gives" in lowered(model(Constant), tmp_path).problems[0].cause


class Uninitialized(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + (0 if torch.compiler.is_exporting() else torch.rand(1))


def test_results_that_vary_without_a_random_op_in_the_program_are_the_models_fault(tmp_path: Path) -> None:
    result = lowered(model(Uninitialized), tmp_path)
    assert result.outcome == "load_error"
    assert "eager disagrees with itself in 'output'" in result.problems[0].cause


class Order(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        values, places = x.topk(3, -1)
        return {"values": values, "topk": places.int().T, "argsort": x.argsort(-1), "argmax": x.argmax(-1), "stable": x.argsort(stable=True, dim=-1),
                "kth": x.kthvalue(2)[1], "twice": places * 2}


def test_indices_of_equal_elements_are_compared_by_what_they_pick(tmp_path: Path) -> None:
    result = lowered(model(Order, {"x": Input("int64", ("n", 6), {"randint": [0, 300]})}, high=8), tmp_path)
    assert result.outcome == "ok", result.problems
    assert codes(result) <= {"verify_ties"}


def picked(indices: torch.Tensor, source: torch.Tensor, got: torch.Tensor) -> bool:
    """Whether `got` picks what `indices`, of `source`'s sort, do."""
    with Picks() as picks:
        found = indices_of(source)
    record = picks.of(found)
    assert record is not None and torch.equal(found, indices)
    ours, theirs = record.positions(got), record.positions(found)
    values = record.source.reshape(-1)
    return ours is not None and theirs is not None and torch.equal(values[ours], values[theirs])


def indices_of(source: torch.Tensor) -> torch.Tensor:
    return source.topk(2, dim=0)[1].T.unsqueeze(0).to(torch.int32)


def test_moved_and_cast_indices_are_followed_to_what_they_pick() -> None:
    source = torch.tensor([[5, 1], [5, 3], [2, 3], [5, 0]])
    found = indices_of(source)
    other = found.clone()
    other[0, 0] = torch.tensor([3, 0])  # 5 and 5, of other rows
    assert picked(found, source, other)
    other[0, 0, 0] = 2
    assert not picked(found, source, other)
    other[0, 0, 0] = 4
    assert not picked(found, source, other)


class TopP(torch.nn.Module):
    """Masks all but the most likely elements, and of the rest those after a share of the whole: which of equal ones, torch leaves open."""

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        x = x.masked_fill(x < x.topk(20, -1).values[:, -1:], float("-inf"))
        ordered, places = x.sort(descending=True, dim=-1)
        likely = ordered.softmax(-1)
        before = likely.cumsum(-1) - likely
        masks = [torch.zeros_like(x, dtype=torch.bool).scatter(1, places, before > share) for share in (0.3, 0.4, 0.5, 0.6)]
        return [x.masked_fill(mask, float("-inf")) for mask in masks]


def test_elements_masked_in_the_order_of_equal_ones_are_not_decided(tmp_path: Path) -> None:
    result = lowered(model(TopP, {"x": Input("float32", ("n", 32))}), tmp_path)
    assert (result.outcome, codes(result)) == ("ok", {"verify_ties"})


class WrongTopP(TopP):
    """Masks by another share in eager than in the program."""

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return super().forward(x if torch.compiler.is_exporting() else 3 * x)


def test_elements_masked_wrongly_are_a_mismatch(tmp_path: Path) -> None:
    assert lowered(model(WrongTopP, {"x": Input("float32", ("n", 32))}), tmp_path).outcome == "mismatch"


def test_a_stable_sort_is_not_followed_and_ties_are_seen() -> None:
    tied, plain = torch.tensor([1.0, 1.0, 2.0]), torch.tensor([1.0, 3.0, float("nan")])
    with Picks() as picks:
        assert picks.of(tied.argsort(stable=True)) is None
        assert not picks.ties
        assert picks.of(plain.argsort()) is not None
        assert not picks.ties
        tied.argmax()
    assert picks.ties and picks.finite_ties
    with Picks() as masked:
        torch.tensor([1.0, -torch.inf, -torch.inf]).sort()
    assert masked.ties and not masked.finite_ties


class NoNan(torch.nn.Module):
    def forward(self, x: torch.Tensor, table: torch.Tensor) -> torch.Tensor:
        return torch.where(x == x, x, 0.0) if torch.compiler.is_exporting() else x


class Zeros(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * (x != 0) if not torch.compiler.is_exporting() else torch.where(x == 0, 1.0, x)


class Lookup(torch.nn.Module):
    def forward(self, x: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
        return x.relu().sum() + x[ids]


class Whole(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x * 3).long()


def test_nan_and_zeros_are_among_what_is_compared(tmp_path: Path) -> None:
    for name, kind, inputs in (("a", NoNan, ROWS | {"table": Input("float32", (2,), "ones")}), ("b", Zeros, None)):
        (tmp_path / name).mkdir()
        result = lowered(model(kind, inputs), tmp_path / name)
        assert result.outcome == "mismatch"
        assert all(f"{'non-finite' if kind is NoNan else 'edges'} values" in problem.place for problem in result.problems)
    (tmp_path / "c").mkdir()
    assert lowered(model(Zeros), tmp_path / "c", values=()).outcome == "ok"


def test_special_values_keep_indices_valid_and_are_run_at_a_point_that_is_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lowering.numerics.xla import Xla

    compiled: list[bytes] = []
    compile_ = Xla.compile

    def counted(self: Xla, static: bytes) -> Any:
        compiled.append(static)
        return compile_(self, static)

    monkeypatch.setattr(Xla, "compile", counted)
    declared = model(Lookup, {"x": Input("float32", (64, 64)), "ids": Input("int64", ("n",), {"randint": [0, 64]})})
    result = lowered(declared, tmp_path)
    assert result.outcome == "ok", result.problems
    assert [point["note"] for point in result.verify["special"]] == ["edges values", "non-finite values"]
    assert len(compiled) == len(result.verify["points"]) == 5


class Spectrum(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.fft.rfft(x).abs()


@pytest.mark.parametrize(("module", "reason"), [(Whole, "converts floats to integers"), (Spectrum, "takes a Fourier transform")])
def test_values_that_cannot_be_compared_are_left_out_and_the_record_says_so(module: type[torch.nn.Module], reason: str, tmp_path: Path) -> None:
    result = lowered(model(module), tmp_path)
    assert result.outcome == "ok", result.problems
    assert reason in result.verify["left_out"]["non-finite"]


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
    assert makings(program.ir, program.signature) == (Making(torch.float32), Making(torch.float32))
    assert comparison.deciding(torch.float64, torch.float32) is torch.float32


def test_honest_rounding_of_long_sums_stays_inside_and_a_planted_error_outside() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 40_000)
    x[0] -= x[0].mean()  # a sum close to zero, of terms that are not
    exact = [x.double().sum(-1) + torch.tensor([0.0, 0.0, 1e9], dtype=torch.float64)]
    room = rounding.spread(lambda: [x.double().sum(-1) + torch.tensor([0.0, 0.0, 1e9], dtype=torch.float64)], exact, torch.float32, 0)[0]
    got = torch.zeros(3)
    for column in x.T:
        got += column  # the order that errs most
    got[2] += 1e9
    assert comparison.nearer(got, got, exact[0], room)
    assert comparison.nearer(got, exact[0].float(), exact[0], room)
    for position in range(2):
        wrong = got.clone()
        wrong[position] += 1
        assert not comparison.nearer(wrong, exact[0].float(), exact[0], room)


def test_rounding_inside_of_fused_ops_is_imitated() -> None:
    torch.manual_seed(2)
    inputs = torch.tensor([[0.0, -11.5]]), torch.randn(1, 1, 8, 8), torch.randn(1, 400, 1, 2) * 1e-4, torch.randn(8, 3, 3)

    def run(dtype: torch.dtype) -> list[torch.Tensor]:
        scores, picture, places, matrices = (value.to(dtype) for value in inputs)
        return [scores.log_softmax(-1), torch.nn.functional.grid_sample(picture, places, align_corners=False), torch.linalg.inv(matrices)]

    exact, rounded = run(torch.float64), run(torch.float32)
    rooms = None
    for seed in range(4):
        rooms = rounding.spread(lambda: run(torch.float64), exact, torch.float32, seed, rooms)
    assert rooms is not None
    for got, wide, room in zip(rounded, exact, rooms, strict=True):
        assert comparison.nearer(got, wide.float(), wide, room)
        wrong = got + 1e-3 * wide.float()
        assert not comparison.nearer(wrong, wide.float(), wide, room)


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


class Locked(torch.nn.Module):
    """Has an attribute that deepcopy refuses, and is off by more than the tolerance in float32 only."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(6, 3)
        self.register_buffer("seen", torch.zeros(3))
        self.lock, self.files, self.drawn = threading.Lock(), files, (number for number in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x) * (1.01 if x.dtype is torch.float32 and not torch.compiler.is_exporting() else 1)


def test_a_module_that_cannot_be_copied_is_built_again_with_the_same_state(tmp_path: Path) -> None:
    result = lowered(model(Locked), tmp_path)
    assert (result.outcome, codes(result)) == ("ok", {"verify_arbitrated"}), result.problems
    program = exported(model(Locked))
    top = program.at(Level.MODEL)
    assert top is not None and isinstance(top.ir, Built) and program.signature is not None
    with torch.no_grad():
        top.ir.module.linear.weight.fill_(2)
    eager = Eager(top.ir.model, top.ir.module, program.signature)
    given = {"x": torch.ones(2, 6)}
    torch.testing.assert_close(eager.double()(given)[0].float(), eager(given)[0] / 1.01)
    assert (eager.nearby(0).module.linear.weight - 2).abs().max() < 1e-5  # type: ignore[union-attr, operator]


class Complex(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2


def test_results_that_safetensors_cannot_hold_are_kept_as_pairs(tmp_path: Path) -> None:
    result = lowered(model(Complex, {"x": Input("complex128", ("n", 3))}), tmp_path)
    assert result.outcome == "ok", result.problems
    (kept,) = tmp_path.glob("*-verify.safetensors")
    held = tensor_files.read(kept, "0/")
    assert held["0/eager/output"].dtype is torch.complex128
    assert torch.equal(held["0/eager/output"], held["0/input/x"] * 2)


def test_every_dtype_comes_back_from_a_file(tmp_path: Path) -> None:
    given = {word: torch.ones(2, 3).to(dtype)[:, ::2] for word, dtype in
             {"a": torch.complex128, "b": torch.complex64, "c": torch.float8_e5m2, "d": torch.bool}.items()} | {"e": torch.tensor(1 + 2j).conj()}
    tensor_files.write(given, tmp_path / "file.safetensors")
    back = tensor_files.read(tmp_path / "file.safetensors")
    assert all(back[name].dtype is value.dtype and torch.equal(back[name].to(torch.complex64), value.to(torch.complex64)) for name, value in given.items())


class Never(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1


def guarded(*guards: str) -> Program:
    """A program down to MHLO whose signature has these guards, and is traced at n = 5."""
    program = exported(model(Never, high=10_000))
    assert program.signature is not None
    program = replace(program, signature=replace(program.signature, guards=guards))
    for stage in (ToTorchScript(deployable=False), ToTorchDialect(), ToStableHLO(), ToMHLO()):
        program = stage.apply(program, Silent())
    return program


def test_no_point_and_fewer_points_than_asked_are_never_silent() -> None:
    from lowering.errors import StageFailed

    heard: list[str] = []

    class Heard(Silent):
        def __call__(self, code: str, message: str, place: str = "") -> None:
            heard.append(code)

    program = guarded("Eq(n, 100_000)")
    with pytest.raises(StageFailed, match=r"nothing was compared: Eq\(n, 100_000\)"):
        Verify(platforms=("cpu",)).apply(program, Heard())
    program = guarded("Eq(n, 5)")
    heard.clear()
    Verify(platforms=("cpu",), levels=("mhlo",)).apply(program, Heard())
    assert "few_points" in heard


def test_what_was_not_verified_says_so(tmp_path: Path) -> None:
    (tmp_path / "levels").mkdir()
    assert lowered(model(Never), tmp_path / "levels", levels=()).unverified == "no level was compared with eager"
    dropped = JobResult("a--b", "a", "b", "ok")
    assert dropped.unverified and dropped.to_json()["unverified"] == dropped.unverified
    assert JobResult("a--b", "a", "b", "mismatch").unverified == ""
    point: dict[str, Any] = {"levels": {"mhlo": {}}}
    assert "float32 (a table)" in replace(dropped, verify={"points": [point], "weakened": {"float32": "a table"}}).unverified
    assert replace(dropped, verify={"points": [point]}).unverified == ""


def test_an_artifact_is_compared_by_the_same_tolerances_and_without_its_random_results(tmp_path: Path) -> None:
    from lowering.numerics import artifact
    from lowering.stages.package import Package

    for name, kind in (("half", Half), ("random", Random)):
        (tmp_path / name).mkdir()
        stages = {"export": Export(), "torchscript": ToTorchScript(), "torch": ToTorchDialect(), "stablehlo": ToStableHLO(), "mhlo": ToMHLO(),
                  "verify": Verify(platforms=("cpu",), levels=("mhlo",), points=2, values=()), "package": Package()}
        result = pipeline.run(Job(model(kind), stages), tmp_path / name)
        assert result.outcome == "ok", result.problems
    half = artifact.execute(tmp_path / "half", {"n": 16}, compare=True).compared
    assert half is not None and all(found.agrees for found in half.values()) and set(half) == {"half", "full", "moved"}
    random = artifact.execute(tmp_path / "random", {"n": 16}, compare=True).compared
    assert random is not None and set(random) == {"kept", "still"}


@pytest.mark.parametrize(
    ("dtype", "tolerance", "places"),
    [("float32", Tolerance(1e-3, 1.0, "a table"), []), ("float32", Tolerance(float("nan"), -1.0), ["atol", "rtol"]), ("float16", Tolerance(0.0, 1.5), ["rtol"]),
     ("float32", Tolerance(float("inf"), 0.0), ["atol"]), ("flaot32", Tolerance(0.0, 0.0), [""])],
)  # fmt: skip
def test_tolerances_that_mean_nothing_are_problems_of_the_configuration(dtype: str, tolerance: Tolerance, places: list[str]) -> None:
    found = find_problems(model(Never, tolerances={dtype: tolerance}), "m")
    assert [problem.place for problem in found] == [f"m.tolerances.{dtype}{'.' if place else ''}{place}" for place in places]


def test_a_weakened_tolerance_is_a_warning_and_makes_the_job_unverified(tmp_path: Path) -> None:
    result = lowered(model(Never, tolerances={"float32": Tolerance(1e-3, 1e-4, "planted")}), tmp_path, values=())
    assert (result.outcome, codes(result)) == ("ok", {"tolerance_weakened"})
    assert result.unverified == "tolerances were weakened: float32 (planted)"


class Conditional(torch.nn.Module):
    """Takes a branch by its data, in which it is off by 1 when it is exported."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wrong = 1.0 if torch.compiler.is_exporting() else 0.0
        return torch.cond(x.sum() > 0, lambda value: value.sin() + wrong, lambda value: value.cos(), (x,))


def test_wrong_numbers_in_a_branch_are_a_mismatch_that_float64_judges(tmp_path: Path) -> None:
    result = lowered(model(Conditional), tmp_path, values=())
    assert result.outcome == "mismatch", result.problems
    assert "float64 sides with eager" in result.problems[0].cause
