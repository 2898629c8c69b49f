"""A model without weights is lowered to the program that it is with them, and nothing runs it or makes weights up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from lowering import pipeline
from lowering.eager.module import instantiate
from lowering.ir import mlir
from lowering.level import Level, Program
from lowering.model import Input, Model, Symbol
from lowering.stage import Silent
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from lowering.store import weights
from tests.toys import Heard

MODEL = Model("mlp", {"_target_": "lowering.sources.mlp.MLP", "width_in": 16, "width_hidden": 32, "width_out": 8},
              {"features": Input("float32", ("batch", 16))}, {"batch": Symbol(1, 64)})


def lowered(model: Model, notes: Silent) -> Program:
    program = Program(Level.MODEL, model)
    for stage in (Export(), ToTorchScript(), ToTorchDialect(), ToStableHLO(), ToMHLO()):
        program = stage.apply(program, notes)
        assert not stage.ensures(program)
    return program


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_the_program_is_the_same(dtype: str | None) -> None:
    notes, model = Heard(), replace(MODEL, dtype=dtype)
    program = lowered(replace(model, weights="none"), notes)
    assert weights.list_fakes(program.weights) == list(program.weights)
    assert mlir.text(program.ir) == mlir.text(lowered(model, Silent()).ir)
    assert "weights_none" in notes.codes


class Tied(torch.nn.Module):
    """One parameter under two names, and buffers of both kinds of numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
        self.second.weight = self.first.weight
        self.register_buffer("scale", torch.ones(3))
        self.register_buffer("count", torch.zeros(1, dtype=torch.int64))


def test_a_dtype_is_given_to_what_has_no_bytes_as_module_to_gives_it() -> None:
    model = Model("tied", {"_target_": f"{__name__}.Tied"}, {}, dtype="float16")
    with FakeTensorMode(allow_non_fake_inputs=True):
        module = instantiate(model)
    assert module.first.weight is module.second.weight  # type: ignore[union-attr]
    assert {name: value.dtype for name, value in module.state_dict().items()} == {
        name: value.dtype for name, value in instantiate(model).state_dict().items()}


def test_no_deployable_module_is_written(tmp_path: Path) -> None:
    script = ToTorchScript().apply(Export().apply(Program(Level.MODEL, replace(MODEL, weights="none")), Silent()), Silent())
    assert [path.name for path in ToTorchScript().save(script, tmp_path / "02-torchscript")] == ["02-torchscript.ts"]


@pytest.mark.parametrize("weights_word", ["random", "none"])
def test_the_word_survives_json(weights_word: str) -> None:
    from lowering.job import Job

    job = Job(replace(MODEL, weights=weights_word), {"export": Export()})  # type: ignore[arg-type]
    assert Job.from_json(job.to_json()).model.weights == weights_word
    assert pipeline.select_stages(job)


def test_the_exported_program_is_saved_as_torch_reads_it(tmp_path: Path) -> None:
    program = Export().apply(Program(Level.MODEL, MODEL), Silent())
    readable, archive = Export().save(program, tmp_path / "01-export")
    assert (readable.suffix, archive.suffix) == (".py", ".pt2")
    loaded = torch.export.load(archive)
    features = torch.randn(7, 16)
    torch.testing.assert_close(loaded.module()(features=features), program.ir.module()(features=features))
    weightless = Export().apply(Program(Level.MODEL, replace(MODEL, weights="none")), Silent())
    assert [path.suffix for path in Export().save(weightless, tmp_path / "none")] == [".py"]
