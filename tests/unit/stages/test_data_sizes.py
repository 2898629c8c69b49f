"""Sizes that depend on the values of tensors: StableHLO has no op for it, so the program is refused or not run, with a reason."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest
import torch

from lowering import pipeline
from lowering.job import Job
from lowering.model import Input, Model, Symbol
from lowering.record.result import JobResult
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from lowering.stages.verify import Verify

STAGES = {"export": Export(archive=False), "torchscript": ToTorchScript(deployable=False), "torch": ToTorchDialect(),
          "stablehlo": ToStableHLO(), "mhlo": ToMHLO(), "verify": Verify(levels=("mhlo",))}


class Places(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.nonzero()


class Masked(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x[x > 0], x.sum(1)])


class Cut(torch.nn.Module):
    def forward(self, x: torch.Tensor, places: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch.tensor_split(x, places)


X = {"x": Input("float32", ("batch", 4))}
INPUTS = {Places: X, Masked: X, Cut: {**X, "places": Input("int64", (1,), {"randint": [1, 2]})}}


def run(module: type[torch.nn.Module], folder: Path) -> JobResult:
    model = Model("sized", {"_target_": f"{__name__}.{module.__name__}"}, INPUTS[module], {"batch": Symbol(2, 64)})
    return pipeline.run(Job(model, STAGES), folder)


@pytest.mark.parametrize(("module", "op"), [(Places, "aten.nonzero"), (Masked, "aten.index.Tensor")])
def test_the_op_that_gives_such_a_size_is_refused_by_its_name_alone(module: type[torch.nn.Module], op: str, tmp_path: Path) -> None:
    result = run(module, tmp_path)
    assert (result.outcome, result.stage) == ("unsupported", "stablehlo")
    (problem,) = result.problems
    line = inspect.getsourcelines(module.forward)[1] + 1
    assert problem.place.startswith(op) and problem.place.endswith(f"test_data_sizes.py:{line}")
    assert "the size of its result depends on the values of its tensors" in problem.cause
    assert "stages.export.data_sizes=capacity" in problem.fix


def test_a_program_that_xla_cannot_run_is_unsupported_by_verify_once_a_level(tmp_path: Path) -> None:
    result = run(Cut, tmp_path)
    assert (result.outcome, result.stage) == ("unsupported", "verify")
    (problem,) = result.problems
    assert problem.place.startswith("mhlo at batch=")
    assert "XLA computes sizes from the sizes of arguments, none from data" in problem.cause
    assert "until=mhlo" in problem.fix
    assert [stage.outcome for stage in result.stages][-2:] == ["ok", "unsupported"]


class Sorted(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if (x[1:] >= x[:-1]).all():
            return x * 3
        return x[x > 0]


def test_a_branch_on_a_truth_value_is_not_taken_for_a_question_about_a_size(tmp_path: Path) -> None:
    model = Model("sorted", {"_target_": f"{__name__}.Sorted"}, {"x": Input("float32", ("batch",))}, {"batch": Symbol(2, 64)})
    result = pipeline.run(Job(model, {**STAGES, "export": Export(archive=False, data_sizes="capacity")}), tmp_path)
    assert (result.outcome, result.stage) == ("error", "export")
    assert "branches on the data of a tensor, `if (x[1:] >= x[:-1]).all():`" in result.problems[0].cause
