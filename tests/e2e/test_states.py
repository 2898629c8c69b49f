"""States: which result is the new value of which argument, the attribute that says so, and memory that is reused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from flows.__main__ import main
from lowering import files, pipeline
from lowering.eager import inputs
from lowering.errors import Mismatch
from lowering.ir import mlir
from lowering.job import Job
from lowering.model import Model
from lowering.numerics.delivery import delivered
from lowering.numerics.delivery.artifact import Artifact
from lowering.numerics.running.xla import Xla
from lowering.record import folder as folders
from lowering.record.result import JobResult
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.package import Package
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from lowering.stages.verify import Verify
from tests.unit.models import cache_models, state_models

LOWERED: dict[str, Any] = {"export": Export(archive=False), "torchscript": ToTorchScript(), "torch": ToTorchDialect(),
                           "stablehlo": ToStableHLO(), "mhlo": ToMHLO()}
CHECKED = {**LOWERED, "verify": Verify(levels=("exported", "torchscript", "mhlo"), points=2, platforms=("cpu",)), "package": Package()}


def run(model: Model, folder: Path, stages: dict[str, Any]) -> JobResult:
    folders.prepare(Job(model, stages), folder)
    result = pipeline.run(Job(model, stages), folder)
    result.save(folder)
    return result


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("counting")
    result = run(state_models.model(), folder, CHECKED)
    assert result.outcome == "ok", result.problems
    return folder


def test_the_signature_names_the_argument_whose_new_value_a_result_is(folder: Path) -> None:
    results = files.read(folder / "signature.json")["signature"]["results"]
    assert {(result["kind"], result["name"], result["state"]) for result in results} == {
        ("buffer_mutation", "steps", "steps"), ("input_mutation", "state.sums", "state.sums"), ("output", "1.total", "state.total"),
        ("output", "0", None), ("state", "1.sums", "state.sums"),
    }


def test_stablehlo_and_mhlo_have_it_too(folder: Path) -> None:
    for file in ("04-stablehlo.stablehlo.mlir", "05-mhlo.mhlo.mlir"):
        head = next(line for line in (folder / file).read_text().splitlines() if "func.func @main" in line)
        assert head.count("tf.aliasing_output") == 3
        assert [head.partition(f"tf.aliasing_output = {number} ")[2] != "" for number in range(4)] == [True, True, False, True]


def test_steps_carry_the_states_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["exec", str(folder), "--steps=5", "--size=batch=3", "--json"]) == 0
    rows = {row["result"]: row for row in json.loads(capsys.readouterr().out)["results"]}
    assert rows["buffer_mutation/steps"]["max"] == 5
    made = inputs.make(state_models.model(), {"batch": 3})
    want = made["state.total"] + 5 * made["x"]
    assert rows["1.total"]["max"] == pytest.approx(want.max().item(), rel=1e-5)
    assert rows["0"]["mean"] == pytest.approx((want * 2 + 5).mean().item(), rel=1e-5)


def test_a_state_is_updated_in_its_memory_and_inputs_of_torch_are_not_touched(folder: Path) -> None:
    text, xla = (folder / "05-mhlo.mhlo.mlir").read_text(), Xla()
    steps, x, sums, total = torch.zeros((), dtype=torch.int64), torch.ones(50, 4), torch.zeros(50, 4), torch.zeros(50, 4)
    xla.hold({"steps": steps})
    for _ in range(2):  # the held buffer is put again after a run that took its memory
        assert int(xla.run(text, [steps, x, sums, total])[0]) == 1
        assert not sums.any() and not total.any() and int(steps) == 0
    aliased = xla.prepare(text, [steps, x, sums, total]).get_compiled_memory_stats().alias_size_in_bytes
    assert aliased == 2 * 50 * 4 * 4 + 8
    plain = text.replace("tf.aliasing_output", "test.ignored")
    assert xla.prepare(plain, [steps, x, sums, total]).get_compiled_memory_stats().alias_size_in_bytes == 0


@pytest.mark.parametrize(("form", "count"), [("jax.buffer_donor", 3), ("none", 0)])
def test_the_attribute_is_an_option(form: Any, count: int, tmp_path: Path) -> None:
    result = run(state_models.model(), tmp_path, {**LOWERED, "stablehlo": ToStableHLO(aliases=form)})
    assert result.outcome == "ok", result.problems
    text = (tmp_path / "05-mhlo.mhlo.mlir").read_text()
    assert text.count("jax.buffer_donor = true") == count and "tf.aliasing_output" not in text


def test_a_state_that_grows_or_that_no_result_updates_is_refused_by_name(tmp_path: Path) -> None:
    grown = cache_models.decode()
    cache: Any = {**grown.inputs["past_key_values"], "state": True}  # type: ignore[dict-item]
    result = run(replace(grown, inputs={**grown.inputs, "past_key_values": cache}), tmp_path / "grown",
                 {"export": Export(archive=False, policy=("deferred",))})
    assert result.outcome == "unsupported"
    assert str(result.problems[0]).startswith(
        "models.llama-decode.inputs.past_key_values.layers.keys: is a state, 'past_key_values.layers.0.keys', of float32[batch, 2, past, "
        "8], and its new value 'past_key_values.layers.0.keys' is float32[batch, 2, past + 1, 8] (a state keeps its shape")
    result = run(state_models.model({"sums": state_models.X, "total": replace(state_models.X, state="totals")}), tmp_path / "lost",
                 {"export": Export()})
    (problem,) = result.problems
    assert str(problem) == (
        "models.counting.inputs.state.total.state: no result is called 'totals', and forward does not write to 'state.total' "
        "(did you mean '1.total'?)")


def test_a_delivered_program_is_held_to_the_states_of_its_signature(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    delivered.check(folder)
    signature = Artifact.load(folder).signature
    exchanged = {"steps": "state.total", "state.total": "steps"}
    results = [replace(result, state=exchanged.get(result.state or "", result.state)) for result in signature.results]
    wrong = replace(signature, results=tuple(results))
    monkeypatch.setattr(delivered.Artifact, "load", lambda *_, exact=Artifact.load, **__: replace(exact(folder), signature=wrong))
    with pytest.raises(Mismatch, match=r"'steps': shares memory with result 'buffer_mutation/steps', and its new value is '1\.total'"):
        delivered.check(folder)


def test_a_static_cache_is_a_state(tmp_path: Path) -> None:
    model = cache_models.static()
    result = run(model, tmp_path, {**CHECKED, "verify": Verify(levels=("mhlo",), points=2, platforms=("cpu",), values=())})
    assert result.outcome == "ok", result.problems
    signature = files.read(tmp_path / "signature.json")["signature"]
    states = {result["state"] for result in signature["results"] if result["kind"] == "input_mutation"}
    assert states == {f"past_key_values.layers.{layer}.{name}" for layer in (0, 1) for name in ("keys", "values", "cumulative_length")}
    assert main(["exec", str(tmp_path), "--steps=3"]) == 0


def test_the_attribute_survives_the_portable_artifact(folder: Path) -> None:
    from jaxlib.mlir.dialects import stablehlo

    with mlir.create_hlo_context() as context:
        program = mlir.text(stablehlo.deserialize_portable_artifact(context, (folder / "program.stablehlo").read_bytes()), elide=None)
    assert program.count("tf.aliasing_output") == 3
