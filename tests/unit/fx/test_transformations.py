"""The stage `transform`: what each shipped step does to a graph, its diff, and that the results stay those of eager down to MHLO."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch.fx import GraphModule

from lowering import pipeline
from lowering.job import Job
from lowering.level import Level, Program
from lowering.model import Input, Model, Symbol
from lowering.record.result import JobResult
from lowering.stage import Silent
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from lowering.stages.transform import Transform
from lowering.stages.verify import Verify


class Wasteful(torch.nn.Module):
    """A weight that nothing reads, views that change nothing, numbers that could be known, a buffer that is counted."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)
        self.unused = torch.nn.Parameter(torch.ones(3))
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        self.calls.add_(1)
        known = torch.arange(4.0) * 2 + torch.tensor([1.0, 2.0, 3.0, 4.0])
        y = self.linear(x).view(x.shape[0], 4).expand(-1, 4).to(torch.float32)
        return y.reshape(-1, 4)[:, :] + known, torch.arange(x.shape[0])


class Heads(torch.nn.Module):
    """Needs its copy, for the view behind it, and an op that returns a list."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left, right = x.split([2, 2], dim=1)
        return torch.stack((left, right), 1).transpose(1, 2).contiguous().view(x.shape[0], 4)


class Guarded(torch.nn.Module):
    """Its program has a guard that no dim expresses."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - 1 if x.shape[0] == 7 else x + 1


class Selected(torch.nn.Module):
    """Data decide the size of its result."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x[:, 0].nonzero() + 1).contiguous()


def doubled(module: GraphModule, by: float) -> GraphModule:
    """A step of a user that does not keep the results."""
    output = next(node for node in module.graph.nodes if node.op == "output")
    last = output.args[0][1]
    with module.graph.inserting_before(output):
        scaled = module.graph.call_function(torch.ops.aten.mul.Scalar, (last, by))
    scaled.meta = dict(last.meta)
    output.args = ((output.args[0][0], scaled, *output.args[0][2:]),)
    return module


def converted(module: GraphModule) -> GraphModule:
    """A step of a user that changes the dtype of a result."""
    output = next(node for node in module.graph.nodes if node.op == "output")
    first = output.args[0][0]
    with module.graph.inserting_before(output):
        wide = module.graph.call_function(torch.ops.aten.to.dtype, (first, torch.float64))
    wide.meta = {**first.meta, "val": first.meta["val"].to(torch.float64)}
    output.args = ((wide, *output.args[0][1:]),)
    return module


def broken(module: GraphModule) -> None:
    """A step that returns nothing."""


def run(folder: Path, stage: Transform, module: type[torch.nn.Module] = Wasteful) -> JobResult:
    model = Model("toy", {"_target_": f"{__name__}.{module.__name__}"}, {"x": Input("float32", ("batch", 4))}, {"batch": Symbol(2, 32)})
    stages: dict[str, Any] = {"export": Export(), "transform": stage, "torchscript": ToTorchScript(), "torch": ToTorchDialect(),
                              "stablehlo": ToStableHLO(), "mhlo": ToMHLO(), "verify": Verify(points=2)}  # fmt: skip
    return pipeline.run(Job(model, stages), folder)


def test_the_shipped_steps_pay_and_keep_the_numbers(tmp_path: Path) -> None:
    result = run(tmp_path, Transform())
    assert (result.outcome, result.problems) == ("ok", ())
    before, after = (set(stage.ops) for stage in result.stages[:2])
    assert before - after >= {"aten.clone.default", "aten.expand.default", "aten.reshape.default"} - (after - before)
    assert "aten.expand.default" in before and "aten.expand.default" not in after
    assert "aten.linear.default" in after
    folded = (tmp_path / "02-transform-1-fold_constants.diff").read_text()
    assert "+        folded_" in folded and "-        mul" in folded
    assert "arange" in (tmp_path / "02-transform.py").read_text()  # that of the batch cannot be known
    assert '-    def forward(self, p_unused: "f32[3]"' in (tmp_path / "02-transform-3-remove_dead_inputs.diff").read_text()
    assert "unused" not in (tmp_path / "03-torchscript.ts").read_text()


def test_a_copy_that_a_view_needs_stays(tmp_path: Path) -> None:
    result = run(tmp_path, Transform(), Heads)
    assert (result.outcome, result.problems) == ("ok", ())


def test_a_users_step_runs_with_its_options_and_a_wrong_result_is_found(tmp_path: Path) -> None:
    result = run(tmp_path, Transform(({"_target_": f"{__name__}.doubled", "by": 2.0},)))
    assert (result.outcome, result.stage) == ("mismatch", "verify")
    assert "aten.mul.Scalar" in (tmp_path / "02-transform-1-doubled.diff").read_text()


@pytest.mark.parametrize(("export", "module"), [(Export(), Guarded), (Export(data_sizes="capacity"), Selected)])
def test_guards_and_counts_outlast_a_transformation(export: Export, module: type[torch.nn.Module]) -> None:
    model = Model("toy", {"_target_": f"{__name__}.{module.__name__}"}, {"x": Input("float32", ("batch", 4))}, {"batch": Symbol(2, 32)})
    before = export.apply(Program(Level.MODEL, model), Silent())
    assert before.signature is not None
    assert before.signature.guards or before.signature.computed != before.signature.returned
    stage = Transform()
    after = stage.apply(before, Silent())
    assert after.signature is not None
    assert (after.signature.results, after.signature.guards) == (before.signature.results, before.signature.guards)
    assert not stage.ensures(after)


@pytest.mark.parametrize(("step", "outcome", "words"), [
    ({"_target_": "lowering.fx.transformations.fold_everything"}, "unsupported", ("steps[0]", "fold_everything")),
    ({"_target_": "lowering.fx.transformations.fold_constants", "elements": 3}, "error", ("fold_constants", "elements")),
    ({"_target_": f"{__name__}.converted"}, "error", ("changed the results",)),
    ({"_target_": f"{__name__}.broken"}, "error", ("broken", "a transformation returns a GraphModule")),
])
def test_a_step_that_is_none(step: dict[str, Any], outcome: str, words: tuple[str, ...], tmp_path: Path) -> None:
    result = run(tmp_path, Transform((step,)))
    assert (result.outcome, result.stage) == (outcome, "transform")
    assert all(word in str(result.problems[0]) for word in words), result.problems
