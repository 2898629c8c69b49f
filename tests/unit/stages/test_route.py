"""`route: fx`: torch-mlir's own importer in place of TorchScript and ours, with the same signature and the same stages below."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flows.config.plan import plan
from lowering import pipeline
from lowering.errors import ConfigError
from lowering.ir import mlir
from lowering.job import Job
from lowering.level import Level, Program
from lowering.stages.export import Export
from lowering.stages.fx_import import FromFX
from tests.unit.models import tiny_bert

FX = "lowering.stages.fx_import.FromFX"


def test_the_route_changes_the_stages_above_the_torch_level_only() -> None:
    (main,), (fx,) = (plan(["model=mlp", f"route={route}"]).jobs for route in ("torchscript", "fx"))
    assert main == plan(["model=mlp"]).jobs[0]
    assert [name for name in main["stages"] if name != "torchscript"] == list(fx["stages"])
    assert fx["stages"]["torch"] == {"_target_": FX}
    assert fx["stages"]["export"] == {**main["stages"]["export"], "decompose": "torch_mlir"}
    assert fx["stages"]["mhlo"] == main["stages"]["mhlo"]


def test_the_command_line_and_a_file_of_stages_come_over_the_route(tmp_path: Path) -> None:
    options = "stages.torch.backend_legal_ops=[aten.softmax.int]"
    (job,) = plan(["model=mlp", "route=fx", "stages.export.decompose=core", options]).jobs
    assert job["stages"]["export"]["decompose"] == "core"
    assert job["stages"]["torch"] == {"_target_": FX, "backend_legal_ops": ["aten.softmax.int"]}
    mine = tmp_path / "mine.yaml"
    mine.write_text("export: {decompose: lazy}\nverify: null\n")
    (job,) = plan(["model=mlp", "route=fx", f"stages={mine}"]).jobs
    assert job["stages"]["export"]["decompose"] == "lazy"
    assert "verify" not in job["stages"]


def test_a_route_that_is_none_is_refused_with_the_near_miss() -> None:
    with pytest.raises(ConfigError) as caught:
        plan(["model=mlp", "route=fxx"])
    (problem,) = caught.value.problems
    assert str(problem) == "command line route: 'fxx' is not one of torchscript, fx (did you mean 'fx'?)"


def test_a_model_goes_by_torch_mlirs_importer_to_mhlo_and_computes_what_eager_does(tmp_path: Path) -> None:
    job = _load(["model=mlp", "route=fx"])
    result = pipeline.run(job, tmp_path)
    assert (result.outcome, result.problems) == ("ok", ())
    assert [stage.name for stage in result.stages] == ["export", "torch", "stablehlo", "mhlo", "verify", "package"]
    assert len(result.verify["points"]) >= 4
    assert json.loads((tmp_path / "05-verify.json").read_text())["kept"]


def test_both_routes_give_a_function_of_the_same_arguments_and_results() -> None:
    main = tiny_bert.torch_level()
    fx = tiny_bert.lower(Program(Level.MODEL, tiny_bert.MODEL), Export("torch_mlir"), FromFX())
    assert fx.signature == main.signature
    assert list(fx.weights) == list(main.weights)
    assert _type_of(fx) == _type_of(main)


def test_what_the_importer_raises_fails_the_stage_and_names_it(tmp_path: Path) -> None:
    job = _load(["model=mlp"])
    stages = {"export": Export("torch_mlir"), "break": _Spoil(), "torch": FromFX()}
    result = pipeline.run(Job(job.model, stages), tmp_path)
    assert (result.outcome, result.stage) == ("error", "torch")
    assert result.problems[0].place == "torch_mlir.extras.fx_importer"


class _Spoil(Export):
    """Puts an op into the graph that the importer does not know."""

    source = target = Level.EXPORTED

    def apply(self, program: Program, note: object) -> Program:
        for node in program.ir.graph.nodes:
            if node.op == "call_function":
                node.target = print
        return program.replace_ir(Level.EXPORTED, program.ir)

    def ensures(self, program: Program) -> tuple[()]:
        return ()

    def save(self, program: Program, stem: Path) -> list[Path]:
        return []


def _load(overrides: list[str]) -> Job:
    (data,) = plan(overrides).jobs
    return Job.from_json(data)


def _type_of(program: Program) -> str:
    (function,) = (operation for operation in mlir.walk_operations(program.ir) if operation.name == "func.func")
    return str(function.attributes["function_type"])
