"""Custom ops down the whole ladder: every kind of argument and result in the custom call, and the numbers of eager through the bridge."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from lowering import pipeline
from lowering.errors import StageFailed
from lowering.ir import mlir
from lowering.job import Job
from lowering.level import Level, Program
from lowering.model import CustomCall, Input, Model, Symbol
from lowering.numerics.running import xla
from lowering.record.result import JobResult
from lowering.stage import Silent, Stage
from lowering.stages.export import Export
from lowering.stages.fx_import import FromFX
from lowering.stages.mhlo import ToMHLO
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from lowering.stages.verify import Verify
from lowering.torchscript.text import parse

STAGES = {"export": Export(), "torchscript": ToTorchScript(deployable=False), "torch": ToTorchDialect(), "stablehlo": ToStableHLO(),
          "mhlo": ToMHLO(), "verify": Verify(points=3)}  # fmt: skip


def model(name: str, custom_calls: Mapping[str, CustomCall] | None = None) -> Model:
    return Model(name, {"_target_": f"tests.unit.models.custom_models.{name}"}, {"x": Input("float32", ("rows", "columns"))},
                 {"rows": Symbol(2, 24), "columns": Symbol(3, 24)}, custom_calls=custom_calls or {})


def lowered(name: str, folder: Path, custom_calls: Mapping[str, CustomCall] | None = None) -> tuple[JobResult, str]:
    """The result, and each custom call of the MHLO level as text, less the shape assertions."""
    result = pipeline.run(Job(model(name, custom_calls), STAGES), folder)
    files = list(folder.glob("*.mhlo.mlir"))
    lines = files[0].read_text().splitlines() if files else []
    return result, "\n".join(line for line in lines if "mhlo.custom_call" in line and "@shape_assertion" not in line)


def test_every_argument_is_in_the_call_by_name_and_position(tmp_path: Path) -> None:
    result, call = lowered("Every", tmp_path)
    assert result.outcome == "ok", result.problems
    arguments = dict(re.findall(r"(\w+) = \{([^{}]*(?:\{[^{}]*\})?[^{}]*)\}", call.partition("arguments = {")[2]))
    assert arguments["x"] == "operand = 0 : i64, position = 0 : i64"
    assert arguments["n"] == "operand = 1 : i64, position = 1 : i64", "a size that is dynamic is an operand"
    assert arguments["flip"] == "position = 2 : i64, value = true"
    assert arguments["w"] == "position = 3 : i64, value = dense<[5.000000e-01, 1.500000e+00]> : tensor<2xf64>"
    assert arguments["names"] == 'position = 4 : i64, value = {"0" = "a", "1" = "b"}'
    assert arguments["flags"] == "position = 5 : i64, value = dense<[1, 0]> : tensor<2xi64>"
    assert arguments["sizes"] == "operands = dense<[2, 3]> : tensor<2xi64>, position = 6 : i64"
    assert arguments["by"] == "position = 7 : i64, value = 2 : i64"
    assert arguments["maybe"] == "none = true, position = 8 : i64"
    assert arguments["mode"] == 'position = 9 : i64, value = "sum"'
    assert arguments["dtype"] == 'position = 10 : i64, value = "float64"'
    assert arguments["device"] == "none = true, position = 11 : i64"
    assert arguments["dims"] == "position = 12 : i64, value = dense<[0, -1]> : tensor<2xi64>"
    assert 'op = "trial::every", overload = ""' in call
    assert "api_version = 4" in call and "has_side_effect" not in call
    assert "(tensor<?x?xf32>, tensor<i64>, tensor<i64>, tensor<i64>, tensor<2xi32>) -> tensor<?x?xf64>" in call


def test_lists_and_several_results(tmp_path: Path) -> None:
    result, calls = lowered("Several", tmp_path)
    assert result.outcome == "ok", result.problems
    assert "-> (tensor<?x?xf32>, tensor<?xf32>)" in calls
    assert "ys = {operands = dense<[1, -1, 2]>" in calls, "an absent element of a list keeps its place"
    assert "n = {operand = 1" in calls


def test_what_an_op_writes_is_a_result_that_may_stay_in_place(tmp_path: Path) -> None:
    result, call = lowered("Writes", tmp_path)
    assert result.outcome == "ok", result.problems
    assert "-> (tensor<?xf32>, tensor<?x2xf32>, tensor<?x?xf32>, tensor<?x?xf32>)" in call
    for number, operand in ((1, 0), (2, 1), (3, 2)):
        assert f"output_tuple_indices = [{number}], operand_index = {operand}" in call


def test_data_dependent_sizes_stay_dynamic_and_are_run(tmp_path: Path) -> None:
    result, calls = lowered("FromData", tmp_path)
    assert result.outcome == "ok", result.problems
    assert len(re.findall(r"@trial\.positive\(.*-> tensor<\?xf32>", calls)) == 2
    assert not re.search(r"@trial\.positive\(.*indices_of_shape_operands", calls)
    assert [remark.message for remark in result.warnings if remark.code == "size_from_data"] != []


def test_a_call_without_results_has_a_side_effect(tmp_path: Path) -> None:
    result, call = lowered("Logs", tmp_path)
    assert result.outcome == "ok", result.problems
    assert "@trial.log" in call and "has_side_effect = true" in call


def test_an_op_of_pytorchs_own_is_kept_whole_under_another_name(tmp_path: Path) -> None:
    result, call = lowered("Gelu", tmp_path, {"aten.gelu": CustomCall("acme.gelu")})
    assert result.outcome == "ok", result.problems
    assert '@acme.gelu(' in call and 'op = "aten::gelu"' in call and 'approximate = {position = 1 : i64, value = "tanh"}' in call


def test_a_row_of_custom_calls_that_changes_nothing_is_noted(tmp_path: Path) -> None:
    result, _ = lowered("Gelu", tmp_path, {"aten.relu": CustomCall()})
    assert result.outcome == "ok", result.problems
    assert [remark.place for remark in result.warnings if remark.code == "custom_call_unused"] == ["custom_calls.aten.relu"]


def test_a_row_of_custom_calls_names_an_op(tmp_path: Path) -> None:
    result, _ = lowered("Gelu", tmp_path, {"aten.geluu": CustomCall()})
    assert (result.outcome, [problem.place for problem in result.problems]) == ("load_error", ["custom_calls.aten.geluu: op 'aten::geluu'"])
    assert result.problems[0].fix == "did you mean 'aten::gelu'?"


def test_route_fx_takes_custom_ops_too(tmp_path: Path) -> None:
    stages = {"export": Export(decompose="torch_mlir"), "torch": FromFX(), **dict(list(STAGES.items())[3:5]),
              "verify": Verify(levels=("mhlo",))}
    result = pipeline.run(Job(model("Every"), stages), tmp_path)
    assert result.outcome == "ok", result.problems
    assert '@trial.every(' in next(tmp_path.glob("*.mhlo.mlir")).read_text()


def test_a_branch_may_call_a_custom_op(tmp_path: Path) -> None:
    result, call = lowered("Branch", tmp_path)
    assert result.outcome == "ok", result.problems
    assert "@trial.repeat(" in call and "indices_of_shape_operands" in call


@pytest.mark.parametrize(("name", "outcome", "stage", "said"), [
    ("Nameless", "unsupported", "export", ["trial::nameless", "no fake kernel", "register_fake('trial::nameless')"]),
    ("Unknown", "load_error", "export", ["trial::positiv", "is not registered", "did you mean 'trial::positive'?"]),
    ("Complex", "unsupported", "torchscript", ["trial::turn", "argument 'by' of type complex", "custom_models.py"]),
    ("Liar", "error", "verify", ["trial::liar", "result 0 is Float[1, ", "its fake kernel promised"]),
])
def test_what_cannot_be_lowered_or_run_names_the_op(name: str, outcome: str, stage: str, said: list[str], tmp_path: Path) -> None:
    result, _ = lowered(name, tmp_path)
    assert (result.outcome, result.stage) == (outcome, stage)
    text = "\n".join(map(str, result.problems))
    assert [words for words in said if words not in text] == []


def test_what_a_kernel_raises_comes_out_of_xla() -> None:
    program = descended("Picky", *list(STAGES.values())[:5])
    with pytest.raises(StageFailed, match=r"trial::picky.*no more than two rows, please"):
        xla.Xla("cpu").run(mlir.text(program.ir, elide=None), [torch.ones(5, 4)])


def test_text_of_an_op_that_writes_reads_back() -> None:
    text = str(descended("Writes", Export(), ToTorchScript()).ir)
    assert "trial::bump_[dims=" in text
    assert str(parse(text)) == text


def test_dims_of_results_are_in_the_models_words() -> None:
    text = str(descended("Several", Export(), ToTorchScript()).ir)
    assert 'trial::split[dims="[rows, columns], [columns]"]' in text
    assert 'trial::repeat[dims="[columns*rows + rows, columns]"]' in text or 'trial::repeat[dims="[rows*(columns + 1), columns]"]' in text


def descended(name: str, *stages: Stage) -> Program:
    """A model of custom_models, through `stages`, whatever they note."""
    program = Program(Level.MODEL, model(name))
    for stage in stages:
        program = stage.apply(program, Silent())
    return program
