"""A refusal names every op that has no lowering, each with the user's line, at once."""

from __future__ import annotations

import inspect

import pytest
import torch

from benchmarks.op_samples import Sample
from benchmarks.op_trial import attempt
from lowering.errors import StageFailed, Unsupported
from lowering.ir import mlir
from lowering.stages.stablehlo import CONVERT, FINISH
from lowering.torch_dialect import inventory


class AtTheTorchLevel(torch.nn.Module):
    def forward(self, x0: torch.Tensor) -> torch.Tensor:
        first = torch.linalg.eig(x0.mT @ x0)[0].abs().sum()
        factor, pivots, _ = torch.linalg.ldl_factor_ex(x0.mT @ x0 + first)
        return torch.linalg.ldl_solve(factor, pivots, x0.mT)


class AtTheStableHLOLevel(torch.nn.Module):
    def forward(self, x0: torch.Tensor) -> torch.Tensor:
        counted = torch.bincount(x0.abs().long().flatten())
        places = x0.nonzero()
        return x0.masked_select(x0 > 0).sum() + counted.sum() + places.sum()


def lines_of(module: type[torch.nn.Module]) -> list[int]:
    lines, start = inspect.getsourcelines(module.forward)
    return [start + number for number in range(1, len(lines))]


@pytest.mark.parametrize(("module", "stage", "names"), [
    (AtTheTorchLevel, "torch", ["linalg_eig", "linalg_ldl_factor_ex", "linalg_ldl_solve"]),
    (AtTheStableHLOLevel, "stablehlo", ["bincount", "masked_select", "nonzero"]),
])  # fmt: skip
def test_every_unsupported_op_is_named_with_its_line(module: type[torch.nn.Module], stage: str, names: list[str]) -> None:
    trial = attempt(Sample("three", "float32", module().eval(), {"x0": torch.randn(4, 6)}))
    assert (trial.outcome, trial.stage) == ("unsupported", stage)
    for name in names:
        assert any(name in problem for problem in trial.problems), (name, trial.problems)
    for line in lines_of(module):
        assert any(f"test_inventory.py:{line}" in problem for problem in trial.problems), (line, trial.problems)


PIPELINE = mlir.join_pipelines(CONVERT.format(allow="true"), FINISH)
TENSOR = "!torch.vtensor<[?,4],f32>"


def parsed(body: str) -> object:
    text = f"func.func @main(%arg0: {TENSOR}) -> {TENSOR} {{\n{body}\n  return %last : {TENSOR}\n}}"
    return mlir.parse(text, mlir.create_torch_context())


def test_equal_ops_are_one_entry_and_what_passes_is_none() -> None:
    module = parsed(f"""
  %a = torch.aten.tanh %arg0 : {TENSOR} -> {TENSOR}
  %b = torch.operator "aten.unknown"(%a) : ({TENSOR}) -> {TENSOR}
  %last = torch.operator "aten.unknown"(%b) : ({TENSOR}) -> {TENSOR}""")
    found = inventory.find_rejected(module, PIPELINE)
    assert [problem.place for problem in found] == ["aten.unknown"]


def test_a_failure_that_no_single_op_explains_stays_what_it_is() -> None:
    module = parsed(f"  %last = torch.aten.tanh %arg0 : {TENSOR} -> {TENSOR}")
    with pytest.raises(StageFailed) as caught, inventory.report_all(module, "builtin.module(func.func(convert-torch-to-stablehlo))"):
        mlir.run(module, "builtin.module(torch-verify-stablehlo-backend-contract)", "test")
    assert not isinstance(caught.value, Unsupported)
