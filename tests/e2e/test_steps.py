"""A prompt and steps of generation, whose programs carry a cache on and agree with eager token by token."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import pytest
import torch

from examples.serving import serve
from lowering import pipeline
from lowering.eager.module import instantiate
from lowering.errors import Mismatch, Refused
from lowering.job import Job
from lowering.level import Level, Program
from lowering.model import Input, Model, Symbol
from lowering.numerics.delivery import generation, steps
from lowering.numerics.delivery.artifact import Artifact
from lowering.numerics.delivery.prompts import Names
from lowering.record.joining import Joining
from lowering.stage import Silent
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.package import Package
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from lowering.stages.verify import Verify
from lowering.worker import joining
from tests.toys import Heard
from tests.unit.models import cache_models, state_models

STAGES = {"export": Export(archive=False), "torchscript": ToTorchScript(deployable=False), "torch": ToTorchDialect(),
          "stablehlo": ToStableHLO(), "mhlo": ToMHLO(), "package": Package()}


def lower(model: Model, folder: Path) -> Artifact:
    folder.mkdir()
    result = pipeline.run(Job(model, STAGES), folder)
    assert result.outcome == "ok", result.problems
    return Artifact.load(folder)


@pytest.fixture(scope="module")
def entries(tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Artifact]:
    home, decode = tmp_path_factory.mktemp("steps"), cache_models.static()
    cache: Any = decode.inputs["past_key_values"]
    states = replace(cache["layers"]["keys"], fill="zeros")
    empty: Any = {**cache, "layers": {"repeat": 2, "keys": states, "values": states, "cumulative_length": Input("int64", (), "zeros")}}
    inputs: Any = {"input_ids": Input("int64", ("batch", "seq"), {"randint": [0, 64]}), "past_key_values": empty}
    prefill = replace(decode, inputs=inputs, symbols={"batch": Symbol(1, 8), "seq": Symbol(1, 20)}, entry="prefill")
    return lower(prefill, home / "prefill"), lower(replace(decode, entry="decode"), home / "decode")


@pytest.mark.parametrize("sizes", [{"batch": 1, "seq": 1}, {"batch": 3, "seq": 17}])
def test_a_prompt_and_eight_steps_agree_with_eager(entries: tuple[Artifact, Artifact], sizes: dict[str, int]) -> None:
    found = list(steps.run(entries, sizes, 8))
    assert [step.entry for step in found] == ["prefill"] + ["decode"] * 8
    assert all(step.agrees and step.top == 1 for step in found), [step.compared for step in found if not step.agrees]
    assert all("logits" in step.compared and "input_mutation/past_key_values.layers.1.keys" in step.compared for step in found)


def test_a_cache_that_grows_is_handed_on_by_its_name(tmp_path: Path) -> None:
    prefill, decode = (lower(model, tmp_path / model.entry) for model in state_models.growing())
    found = list(steps.run([prefill, decode], {"batch": 2, "seq": 5}, 4))
    assert [step.sizes for step in found] == [{"batch": 2, "seq": 5}, *({"batch": 2, "past": past} for past in range(5, 9))]
    assert all(step.agrees and step.top == 1 for step in found)


def test_a_step_that_differs_is_found_at_its_number(entries: tuple[Artifact, Artifact]) -> None:
    prefill, decode = entries
    name = next(name for name in decode.weights if name.endswith("1.self_attn.v_proj.weight"))
    wrong = replace(decode, weights={**decode.weights, name: decode.weights[name] * 1.5})
    found = list(steps.run([prefill, wrong], {"batch": 2, "seq": 3}, 2))
    assert [step.agrees for step in found] == [True, False, False]


def test_jax_alone_serves_the_files_as_eager_does(entries: tuple[Artifact, Artifact]) -> None:
    prompts = [[5, 17, 3, 9], [8, 2, 40, 1]]
    module, cache = instantiate(entries[0].model), None
    tokens, wanted = torch.tensor(prompts), []
    with torch.no_grad():
        for _ in range(6):
            returned = module(input_ids=tokens, past_key_values=cache, use_cache=True)
            tokens, cache = returned.logits[:, -1:].argmax(-1), returned.past_key_values
            wanted.append(tokens)
    with jax.enable_x64(True):
        prefill, decode = (serve.load(artifact.folder) for artifact in entries)
        assert serve.generate(prefill, decode, prompts, 6).tolist() == torch.cat(wanted, dim=1).tolist()
        with pytest.raises(ValueError, match="Error refining shapes"):
            serve.generate(prefill, decode, [[1]] * 9, 1)


def test_entries_that_do_not_fit_together_are_refused(entries: tuple[Artifact, Artifact]) -> None:
    with pytest.raises(Refused, match=r"has no input 'ids' \(inputs: input_ids, "):
        list(steps.run(entries, {"batch": 2, "seq": 3}, 2, Names("ids")))


@pytest.fixture(scope="module")
def step() -> Program:
    """The program of a step of a cache that grows, after its prompt."""
    prefill, decode = state_models.growing()
    program = Program(Level.MODEL, replace(decode, after=prefill))
    for stage in list(STAGES.values())[:-1]:
        program = stage.apply(program, Silent())
    return program


def test_verify_runs_steps_after_prompts_of_several_lengths(step: Program) -> None:
    heard = Heard()
    Verify(points=1, levels=("mhlo",), values=(), steps=3).apply(step, heard)
    walks = heard.reports["verify"]["steps"]
    assert [walk["sizes"] for walk in walks] == [{"batch": 2, "seq": 5}, {"batch": 2, "seq": 7}, {"batch": 1, "seq": 9}]
    assert all((walk["steps"], walk["top1"], walk["top5"]) == (3, 1, 1) for walk in walks)


def test_a_program_that_is_wrong_on_real_states_only_is_named_with_its_step(step: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eager's own states are far from random ones: what is wrong on them alone is found by steps."""
    right = generation.make_runner

    def wrong(program: Program, device: Any) -> Any:
        run = right(program, device)
        return lambda given: tuple(value + (given["seen"].shape[1] == 6) for value in run(given))

    monkeypatch.setattr(generation, "make_runner", wrong)
    with pytest.raises(Mismatch, match=r"output 'logits' of step 2 of decode after a prompt \(batch=2, seq=5, padding none\)"):
        Verify(points=1, levels=("mhlo",), values=(), steps=3).apply(step, Silent())


def test_the_functions_of_a_joined_program_make_the_same_steps(entries: tuple[Artifact, Artifact]) -> None:
    folder = entries[0].folder.with_name("joined")
    folder.mkdir()
    ended = joining.join(folder, Joining("model--default", {entry.folder.name: entry.folder.name for entry in entries}))
    assert ended.outcome == "ok", ended.problems
    together = [Artifact.load(folder, entry=name) for name in ("prefill", "decode")]
    assert [argument.name for argument in together[1].signature.weights] == [argument.name for argument in entries[1].signature.weights]
    assert all(step.agrees and step.top == 1 for step in steps.run(together, {"batch": 2, "seq": 3}, 2))
