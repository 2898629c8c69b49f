"""Real levels in the store: each stage starts from the stored level before it, in a new context, and gives the same result."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils import _pytree as pytree
from transformers import DynamicCache

from lowering import pipeline
from lowering.eager import inputs
from lowering.eager.arguments import assemble
from lowering.fx.dynamic_shapes import build_dynamic_shapes
from lowering.fx.names import input_names
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
from lowering.stages.verify import Verify
from lowering.store.entries import Store
from lowering.store.programs import dump, load

FACTORY = {"_target_": "lowering.sources.mlp.MLP", "width_in": 16, "width_hidden": 32, "width_out": 8}
MODEL = Model("mlp", FACTORY, {"features": Input("float32", ("batch", 16))}, {"batch": Symbol(1, 64)})
STAGES = {"export": Export(), "torchscript": ToTorchScript(), "torch": ToTorchDialect(), "stablehlo": ToStableHLO(), "mhlo": ToMHLO(),
          "verify": Verify(platforms=("cpu",))}
JOB = Job(MODEL, STAGES)
TIMED = (".json", ".log", ".pt", ".safetensors")  # hold times, or are containers whose bytes differ


class Parts(torch.nn.Module):
    """Takes a list apart, whose elements a program that was read back keeps as a tuple."""

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        left, right, rest = (features * 2).split([4, 4, 8], dim=1)
        return left * right + rest.sum()


def run(folder: Path, store: Path, job: Job = JOB) -> JobResult:
    folder.mkdir()
    result = pipeline.run(job, folder, store=store)
    assert result.outcome == "ok", result.problems
    return result


def untimed(symbols: Mapping[str, Any]) -> dict[str, Any]:
    """A symbol log without the times of its events and attempts."""
    return {**symbols, "events": (), "attempts": [{**attempt, "seconds": 0} for attempt in symbols["attempts"]]}


def texts(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix not in TIMED}


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, JobResult]:
    """A folder with `job` and `store`."""
    home = tmp_path_factory.mktemp("saved")
    return home, run(home / "job", home / "store")


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_continues_from_the_store(first: tuple[Path, JobResult], tmp_path: Path, name: str) -> None:
    home, result = first
    shutil.copytree(home / "store", tmp_path / "store")
    Store(tmp_path / "store").discard(next(stage.key for stage in result.stages if stage.name == name))
    again = run(tmp_path / "job", tmp_path / "store")
    assert {stage.name: stage.cache for stage in again.stages} == {stage: "miss" if stage == name else "hit" for stage in STAGES}
    assert texts(tmp_path / "job") == texts(home / "job")
    assert untimed(again.symbols) == untimed(result.symbols)
    assert [point["sizes"] for point in again.verify["points"]] == [point["sizes"] for point in result.verify["points"]]
    assert again.verify["max_abs"] < 1e-6


def test_ops_that_return_lists_continue_from_the_store(tmp_path: Path) -> None:
    model = replace(MODEL, factory={"_target_": f"{__name__}.Parts"})
    run(tmp_path / "exported", tmp_path / "store", Job(model, {"export": Export()}))
    result = run(tmp_path / "lowered", tmp_path / "store", Job(model, STAGES))
    assert [stage.cache for stage in result.stages][:2] == ["hit", "miss"]


def test_other_weights_run_only_what_reads_them(first: tuple[Path, JobResult], tmp_path: Path) -> None:
    home, _ = first
    shutil.copytree(home / "store", tmp_path / "store")
    again = run(tmp_path / "job", tmp_path / "store", replace(JOB, model=replace(MODEL, seed=1)))
    caches = {stage.name: stage.cache for stage in again.stages}
    assert caches == {"export": "miss", "torchscript": "miss", "torch": "hit", "stablehlo": "hit", "mhlo": "hit", "verify": "miss"}
    assert "the weights changed" in next(stage.why for stage in again.stages if stage.name == "torchscript")


def test_damaged_weights_are_never_used(first: tuple[Path, JobResult], tmp_path: Path) -> None:
    home, result = first
    shutil.copytree(home / "store", tmp_path / "store")
    store = Store(tmp_path / "store")
    store.discard(result.stages[-1].key)
    (weights,) = store.weights.glob("*/*.safetensors")
    content = bytearray(weights.read_bytes())
    content[-5] ^= 0x40
    weights.write_bytes(content)
    (tmp_path / "job").mkdir()
    broken = pipeline.run(JOB, tmp_path / "job", store=store.root)
    assert (broken.outcome, broken.stage) == ("infra", "verify")
    run(tmp_path / "again", store.root)


class _Forbidden(Mapping[str, torch.Tensor]):
    def __getitem__(self, name: str) -> torch.Tensor:
        raise AssertionError(f"reads weight {name} without saying so")

    def __iter__(self) -> Iterator[str]:
        raise AssertionError("reads the weights without saying so")

    def __len__(self) -> int:
        raise AssertionError("reads the weights without saying so")


@pytest.fixture(scope="module")
def programs() -> dict[str, tuple[Program, Program]]:
    """What each stage was given and made, by name."""
    program, found = Program(Level.MODEL, MODEL), {}
    for name, stage in STAGES.items():
        made = stage.apply(program, Silent())
        found[name], program = (program, made), made
    return found


@pytest.mark.parametrize("name", ["torchscript", "torch", "stablehlo", "mhlo"])
def test_a_stage_reads_only_what_it_declares(programs: dict[str, tuple[Program, Program]], name: str) -> None:
    given, made = programs[name]
    stage = ToTorchScript(deployable=False) if name == "torchscript" else STAGES[name]
    assert "weights" not in stage.reads()
    assert "levels" not in stage.reads()
    above = Program(Level.MODEL, MODEL) if "interface" in stage.reads() else None
    alone = replace(given, weights=_Forbidden(), above=above)
    assert dump(stage.apply(alone, Silent())) == dump(made)


@pytest.mark.parametrize("name", ["export", "torchscript", "torch", "stablehlo", "mhlo"])
def test_a_level_reads_back_as_it_was(programs: dict[str, tuple[Program, Program]], name: str) -> None:
    _, made = programs[name]
    data = dump(made)
    assert data is not None
    assert dump(replace(made, ir=load(made.level, data, made.weights))) == data


class Doubled(torch.nn.Module):
    def forward(self, past: DynamicCache) -> DynamicCache:
        past.update(past.layers[0].keys * 2, past.layers[0].values, 0)
        return past


def test_a_program_of_caches_is_read_by_a_process_that_knows_none() -> None:
    states = Input("float32", ("batch", 2, "past", 4))
    cache: Any = {"_target_": "transformers.DynamicCache", "layers": [{"keys": states, "values": states}]}
    model = Model("doubled", {"_target_": f"{__name__}.Doubled"}, {"past": cache}, {"batch": Symbol(1, 8), "past": Symbol(1, 64)})
    module = Doubled()
    arguments = assemble(model, module, inputs.make(model, model.examples()))
    program = torch.export.export(module, (), arguments, dynamic_shapes=build_dynamic_shapes(model, arguments))
    written = dump(Program(Level.EXPORTED, program))
    assert written is not None
    pytree._deregister_pytree_node(DynamicCache)
    found = load(Level.EXPORTED, written, {})
    assert input_names(found) == {"past_0": "past.layers.0.keys", "past_1": "past.layers.0.values"}
