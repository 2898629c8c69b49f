"""A program that drops what a new model multiplies by one or adds as zero is wrong, and what was not compared is unverified."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional

from lowering import pipeline
from lowering.errors import StageFailed
from lowering.job import Job
from lowering.level import Level, Program
from lowering.model import Input, Model, Symbol
from lowering.numerics.coverage import weight_values
from lowering.numerics.running import counted
from lowering.record.result import JobResult
from lowering.signature import Argument, Result, Signature
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from lowering.stages.verify import Verify


class Fresh(torch.nn.Module):
    """A norm and a bias as they are made, and a head of zeros; `wrong` is what the program leaves out."""

    def __init__(self, wrong: str = "") -> None:
        super().__init__()
        self.wrong = wrong
        self.norm, self.linear, self.head = torch.nn.LayerNorm(6), torch.nn.Linear(6, 6), torch.nn.Linear(6, 2)
        self.tied = self.linear.bias
        self.register_buffer("gate", torch.ones(1))
        self.register_buffer("scale", torch.full((1,), 0.5))
        for weight in (self.linear.bias, self.head.weight, self.head.bias):
            torch.nn.init.zeros_(weight)

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        wrong = self.wrong if torch.compiler.is_exporting() else ""
        normal = functional.layer_norm(x, (6,)) + (self.norm.weight + self.norm.bias).sum() * 0 if wrong == "norm" else self.norm(x)
        hidden = self.linear(normal) - (self.linear.bias if wrong == "bias" else 0)
        return {"hidden": hidden, "head": self.head(hidden.exp() if wrong == "head" else hidden.tanh()) * self.gate * self.scale}


class Undefined(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"number": x + 1, "none": (-x.abs() - 1).log()}


def lower(kind: type[torch.nn.Module], folder: Path, arguments: dict[str, Any] | None = None, **options: Any) -> JobResult:
    declared = Model("fresh", {"_target_": f"{__name__}.{kind.__name__}", **(arguments or {})}, {"x": Input("float32", ("n", 6))},
                     {"n": Symbol(1, 16)})  # fmt: skip
    verify = Verify(**{"platforms": ("cpu",), "points": 2, "levels": ("mhlo",), **options})
    return pipeline.run(Job(declared, {"export": Export(archive=False), "torchscript": ToTorchScript(), "torch": ToTorchDialect(),
                                       "stablehlo": ToStableHLO(), "mhlo": ToMHLO(), "verify": verify}), folder)


@pytest.mark.parametrize(("wrong", "result"), [("norm", "hidden"), ("bias", "hidden"), ("head", "head")])
def test_what_fresh_weights_hide_is_found(wrong: str, result: str, tmp_path: Path) -> None:
    found = lower(Fresh, tmp_path, {"wrong": wrong}, values=("weights",))
    assert found.outcome == "mismatch" and "weights values" in found.problems[0].place and f"'{result}'" in found.problems[0].place
    assert "first wrong level: exported" in found.problems[0].fix


def test_a_right_program_agrees_with_other_weights_and_the_module_keeps_its_own(tmp_path: Path) -> None:
    found = lower(Fresh, tmp_path, values=("weights",))
    assert (found.outcome, found.unverified) == ("ok", ""), found.problems
    assert [point["note"] for point in found.verify["special"]] == ["weights values"]
    assert found.verify["fixed_weights"] == {"gate": "is a single number, of which a module may have made constants"}
    module = Fresh()
    weights = {name: value.detach().clone() for name, value in module.named_parameters(remove_duplicate=False)}
    arguments = tuple(Argument("parameter", name, "float32", tuple(value.shape)) for name, value in weights.items())
    form = Program(Level.MHLO, None, Signature(arguments, ()), weights)
    values = weight_values.vary(module, [form]).values
    assert set(values) == {"norm.weight", "norm.bias", "linear.bias", "tied", "head.weight", "head.bias"}
    assert values["tied"] is values["linear.bias"] and bool((values["norm.weight"] > 0).all())
    changed = weight_values.vary(module, [form, replace(form, weights={**weights, "norm.bias": torch.ones(6)})])
    assert "norm.bias" not in changed.values and changed.fixed["norm.bias"] == "the mhlo level does not take it, or takes other numbers"
    with weight_values.hold(module, values):
        assert torch.equal(module.head.weight, values["head.weight"])
    assert all(torch.equal(value, weights[name]) for name, value in module.named_parameters())


def test_a_result_without_any_number_and_a_level_that_was_not_compared_are_unverified(tmp_path: Path) -> None:
    found = lower(Undefined, tmp_path)
    assert (found.outcome, found.unverified) == ("ok", "no number was compared of none")
    assert [remark.place for remark in found.warnings if remark.code == "result_not_compared"] == ["none"]
    point: dict[str, Any] = {"levels": {"torchscript": {}}}
    assert replace(found, verify={"points": [point]}).unverified == "the mhlo level was not compared with eager, only torchscript"
    assert replace(found, verify={"points": [{"levels": {"mhlo on gpu": {}}}]}).unverified == ""
    cells = [{"level": "torchscript", "consumer": "libtorch", "outcome": "agrees", "points": 2, "message": ""}]
    by_consumer = replace(found, verify={"points": [{"levels": {}}], "consumers": cells})
    assert by_consumer.unverified == "the mhlo level was not compared with eager, only torchscript:libtorch"
    refused = replace(found, verify={"points": [{"levels": {}}], "consumers": [{**cells[0], "outcome": "refused"}]})
    assert refused.unverified == "no level was compared with eager"


@pytest.mark.parametrize("count", [-1, 5])
def test_a_count_beyond_its_capacity_is_an_error(count: int) -> None:
    signature = Signature((), (Result("output", "rows", "float32", ("u0",)), Result("count", "u0", "int64", (), "4")))
    with pytest.raises(StageFailed, match=f"the count of dim 0 is {count}, and its capacity is 4"):
        counted.trim(signature, [torch.zeros(4), torch.tensor(count)])
