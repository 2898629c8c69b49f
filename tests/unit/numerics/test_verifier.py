"""Levels run at shape points: right ones pass, planted errors are found and blamed on the level that made them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lowering import files
from lowering.eager import inputs
from lowering.errors import LoadError, Mismatch, Refused, StageFailed, Unsupported
from lowering.ir import mlir
from lowering.level import Level, Program
from lowering.model import Built, Input, Model, Symbol, Tolerance
from lowering.numerics import blame
from lowering.numerics.running import runner, xla
from lowering.stage import Silent
from lowering.stages.export import Export
from lowering.stages.verify import Verified, Verify
from tests.toys import Heard
from tests.unit.models.scaled_model import MODEL, Scaled, hlo, program

pytestmark = pytest.mark.usefixtures("without_iree")


@pytest.fixture(scope="module")
def cpu() -> xla.Xla:
    return xla.Xla("cpu")


@pytest.mark.parametrize("level", [Level.EXPORTED, Level.TORCHSCRIPT, Level.STABLEHLO, Level.MHLO])
def test_every_level_that_runs_gives_what_eager_gives(cpu: xla.Xla, level: Level) -> None:
    whole = program()
    form = whole.at(level)
    assert form is not None
    given = inputs.make(MODEL, {"batch": 9}, 1)
    logits, count = runner.make_runner(form, cpu)(given)
    torch.testing.assert_close(logits, torch.relu(given["x"] @ whole.weights["weight"]))
    assert torch.equal(count, 2 * given["ids"])


def test_inputs_that_do_not_fit_are_refused_all_at_once(cpu: xla.Xla) -> None:
    with pytest.raises(Refused) as caught:
        runner.make_runner(program(), cpu)({"x": torch.ones(3, 15), "y": torch.ones(3)})
    assert [problem.place for problem in caught.value.problems] == ["input 'y'", "input 'x'", "input 'ids'"]


def test_a_right_program_is_verified_and_its_points_recorded(tmp_path: Path) -> None:
    heard = Heard()
    stage = Verify(points=5, platforms=("cpu",))
    verified = stage.apply(program(), heard)
    recorded = heard.reports["verify"]
    assert len(recorded["points"]) == 5
    assert all(point["sizes"] != MODEL.examples() for point in recorded["points"])
    assert all(set(point["levels"]) == {"torchscript", "mhlo"} for point in recorded["points"])
    assert recorded["max_abs"] < 1e-4
    assert set(recorded["refused"]) == {"batch must be at least 1", "batch must be at most 64", "dim 0 of ids must be batch"}
    assert heard.codes == []
    assert isinstance(verified, Verified)
    record, results = stage.save(verified, tmp_path / "06-verify")
    assert files.read(record)["kept"][0] == {"kind": "lower", "sizes": {"batch": 1}}
    assert results.stat().st_size > 0


@pytest.mark.parametrize(
    ("planted", "output", "blame"),
    [
        ({"mhlo": hlo("mhlo", relu="add")}, "logits", "first wrong level: mhlo; stablehlo is right"),
        ({"stablehlo": hlo("stablehlo", double="multiply", bounds=()), "mhlo": hlo("mhlo", double="multiply")}, "count",
         "first wrong level: stablehlo; torchscript is right (torch not run)"),
        ({"factor": 3}, "count", "first wrong level: torchscript; exported is right"),
    ],
)  # fmt: skip
def test_a_planted_error_is_blamed_on_its_level(planted: dict[str, Any], output: str, blame: str) -> None:
    heard = Heard()
    with pytest.raises(Mismatch) as caught:
        Verify(platforms=("cpu",)).apply(program(**planted), heard)
    assert all(problem.fix == blame for problem in caught.value.problems)
    assert all(f"output '{output}'" in problem.place for problem in caught.value.problems)
    assert "batch=1 (lower)" in caught.value.problems[0].place
    assert heard.reports["verify"]["blame"] == blame


def test_an_error_at_large_sizes_only_is_found_at_the_upper_corner() -> None:
    clamped = hlo("mhlo").replace('%count = "mhlo.add"(%ids, %ids)', """
      %wide = "mhlo.get_dimension_size"(%ids) <{dimension = 0 : i64}> : (tensor<?xi64>) -> tensor<i32>
      %many = mhlo.constant dense<60> : tensor<i32>
      %over = mhlo.compare GT, %wide, %many : (tensor<i32>, tensor<i32>) -> tensor<i1>
      %one = mhlo.convert %over : (tensor<i1>) -> tensor<i64>
      %dim = mhlo.reshape %wide : (tensor<i32>) -> tensor<1xi32>
      %extra = "mhlo.dynamic_broadcast_in_dim"(%one, %dim) <{broadcast_dimensions = dense<> : tensor<0xi64>}>
        : (tensor<i64>, tensor<1xi32>) -> tensor<?xi64>
      %more = mhlo.add %ids, %extra : tensor<?xi64>
      %count = "mhlo.add"(%ids, %more)""")
    with pytest.raises(Mismatch) as caught:
        Verify(platforms=("cpu",)).apply(program(mhlo=clamped), Heard())
    places = [problem.place for problem in caught.value.problems]
    assert places[0] == "output 'count' of mhlo at batch=64 (upper)"
    assert any("(mixed)" in place for place in places)  # a point at which the comparison of sizes goes the same way
    assert caught.value.problems[0].fix == "first wrong level: mhlo; stablehlo is right"


def test_sizes_outside_the_range_that_a_program_takes_are_a_mismatch() -> None:
    with pytest.raises(Mismatch, match=r"takes sizes outside its ranges: batch must be \[1, 64\], and is 65"):
        Verify(platforms=("cpu",)).apply(program(mhlo=hlo("mhlo", bounds=("GE",))), Heard())


def test_a_dropped_equality_is_a_mismatch_although_the_program_fails_without_it() -> None:
    with pytest.raises(Mismatch, match=r"dim 0 of ids must be batch = \d+, and is \d+"):
        Verify(platforms=("cpu",)).apply(program(mhlo=hlo("mhlo", bounds=("LE", "GE"))), Heard())


def test_a_program_without_assertions_is_warned_about() -> None:
    heard = Heard()
    Verify(platforms=("cpu",)).apply(program(mhlo=hlo("mhlo", bounds=())), heard)
    assert heard.codes == ["ranges_not_carried"]


def test_a_program_that_refuses_sizes_of_its_range_is_a_mismatch() -> None:
    tight = hlo("mhlo").replace("dense<64>", "dense<10>")
    with pytest.raises(Mismatch, match="refuses sizes inside its ranges: @main: batch must be at most 64"):
        Verify(platforms=("cpu",)).apply(program(mhlo=tight), Heard())


def test_a_level_that_cannot_run_fails_the_stage_with_the_point() -> None:
    broken = hlo("mhlo").replace('"mhlo.add"(%ids, %ids) :', '"mhlo.custom_call"(%ids, %ids) <{call_target_name = "no_such_target"}> :')
    with pytest.raises(StageFailed, match=r"mhlo at batch=1 \(lower\): .*custom_call' op has dynamic shapes"):
        Verify(platforms=("cpu",)).apply(program(mhlo=broken), Heard())


def test_fake_weights_are_reported_as_unverified() -> None:
    from torch._subclasses.fake_tensor import FakeTensorMode

    whole, heard = program(), Heard()
    with FakeTensorMode() as mode:
        faked = replace(whole, weights={name: mode.from_tensor(weight) for name, weight in whole.weights.items()})
    assert Verify().apply(faked, heard) is faked
    assert heard.codes == ["weights_faked"]


def test_wrong_options_and_entries_are_refused_all_at_once() -> None:
    problems = Verify(points=0, levels=("fx",), platforms=("tpu",)).requires(Program(Level.MHLO, None))
    assert [problem.place for problem in problems] == ["stages.verify.levels", "stages.verify.platforms", "stages.verify.points", "verify"]


class Noisy(Scaled):
    def forward(self, x: torch.Tensor, ids: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": torch.relu(x @ self.weight) + torch.rand(1), "count": 2 * ids}


class Rough(Scaled):
    """Computes something else in float64."""

    def forward(self, x: torch.Tensor, ids: torch.Tensor) -> dict[str, torch.Tensor]:
        rough = 1 if x.dtype is torch.float64 else 1.01
        return {"logits": torch.relu(x @ self.weight) * rough, "count": 2 * ids}


def with_module(whole: Program, module: torch.nn.Module, model: Model = MODEL) -> Program:
    """`whole` with another module as its eager reference."""
    if whole.level is Level.MODEL:
        return replace(whole, ir=Built(model, module))
    assert whole.above is not None
    return replace(whole, above=with_module(whole.above, module, model))


def test_eager_that_disagrees_with_itself_is_the_models_fault() -> None:
    with pytest.raises(LoadError, match="eager disagrees with itself in 'logits'"):
        Verify(platforms=("cpu",)).apply(with_module(program(), Noisy()), Heard())


def test_float64_is_no_judge_where_it_computes_something_else_than_eager() -> None:
    whole = program()
    rough = Rough()
    rough.load_state_dict({"weight": whole.weights["weight"]})
    with pytest.raises(Mismatch, match="float64 computes something else than eager"):
        Verify(platforms=("cpu",)).apply(with_module(whole, rough), Heard())


def test_a_models_own_tolerance_is_used() -> None:
    loose = replace(MODEL, tolerances={"int64": Tolerance(0, 0.6, "planted")})
    whole = program(factor=3)
    Verify(platforms=("cpu",)).apply(with_module(whole, whole.at(Level.MODEL).ir.module, loose), Heard())  # type: ignore[union-attr]


class Counter(torch.nn.Module):
    steps: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("steps", torch.zeros(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.steps += x.sum()
        return x + self.steps[0]


def test_mutated_buffers_are_results_and_eager_leaves_the_module_as_it_was(cpu: xla.Xla) -> None:
    from torch.export import Dim, export

    from lowering.fx import exported

    model = Model("counter", {}, {"x": Input("float32", ("n",))}, {"n": Symbol(1, 9)})
    module = Counter()
    dims = {"x": {0: Dim("n", min=1, max=9)}}
    captured = export(module, (), inputs.make(model, model.examples()), dynamic_shapes=dims).run_decompositions({})
    form = Program(Level.EXPORTED, captured, exported.read_signature(exported.Exported(captured), model),
                   exported.collect_weights(captured))
    assert form.signature is not None
    given = {"x": torch.arange(4.0)}
    eager = runner.Eager(model, module, form.signature)
    for _ in range(2):
        got, want = runner.make_runner(form, cpu)(given), eager(given)
        assert [result.kind for result in form.signature.results] == ["buffer_mutation", "output"]
        assert [value.tolist() for value in want] == [[6, 6], [6, 7, 8, 9]]
        assert all(map(torch.equal, got, want))
    assert module.steps.tolist() == [0, 0]


class Scaling(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            self.scale.mul_(2)
        return x * self.scale


def test_a_parameter_that_forward_writes_to_is_refused_by_its_name() -> None:
    model = Model("scaling", {"_target_": f"{__name__}.Scaling"}, {"x": Input("float32", ("n",))}, {"n": Symbol(2, 9)})
    with pytest.raises(Unsupported, match=r"parameter 'scale'.*forward writes to it.*register_buffer"):
        Export().apply(Program(Level.MODEL, model), Silent())


def test_mlir_text_of_a_level_is_whole(cpu: xla.Xla) -> None:
    values = torch.arange(200, dtype=torch.float32)
    listed = ", ".join(f"{value:.1f}" for value in values.tolist())
    text = f"""func.func @main(%x: tensor<?x200xf32>) -> tensor<200xf32> {{
      %0 = mhlo.constant dense<[{listed}]> : tensor<200xf32>
      return %0 : tensor<200xf32> }}"""
    assert torch.equal(cpu.run(mlir.text(mlir.parse(text, mlir.create_hlo_context()), elide=None), [torch.ones(2, 200)])[0], values)


def test_the_ladder_lists_forms_once() -> None:
    assert [form.level for form in blame.list_forms(program())] == list(Level)[1:]
