"""A model without weights is verified on a small twin of the same architecture, which passes the same stages."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from lowering import model_checks, pipeline
from lowering.errors import LoadError
from lowering.ir import mlir
from lowering.job import Job
from lowering.level import Program
from lowering.model import Input, Model, Symbol
from lowering.record.result import JobResult
from lowering.sources import huggingface
from lowering.stage import Note, Stage
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from lowering.stages.verify import Verify

LARGE = {"vocab_size": 1000, "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32,
         "num_key_value_heads": 8}
BATCH = Symbol(1, 8)


def large(config: str, architecture: str, kwargs: dict[str, Any], **changes: Any) -> Model:
    """Return a model of transformers without weights."""
    factory = {"_target_": "lowering.sources.huggingface.build", "config": config, "architecture": architecture, "kwargs": kwargs,
               **({"experts": "batched_mm"} if "n_routed_experts" in kwargs else {})}
    return Model("large", factory, {"input_ids": Input("int64", ("batch", 4), {"randint": [0, 1000]})}, {"batch": BATCH}, weights="none",
                 **changes)


class Scaled(torch.nn.Module):
    """Multiplies by a weight for each of its features."""

    def __init__(self, width: int, scale: float = 1.0):
        super().__init__()
        self.scale = scale
        self.weight = torch.nn.Parameter(torch.randn(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.weight * self.scale


def scaled(width: int, scale: float = 1.0) -> torch.nn.Module:
    return Scaled(width, scale)


def make_twin(model: Model) -> tuple[Model, dict[str, Any]]:
    """Return the twin of a `scaled` model: the rule of a factory of one's own."""
    changes = dict(model.twin or {"width": 4})
    return replace(model, factory={**model.factory, **changes}, inputs={"x": Input("float32", ("batch", changes["width"]))},
                   weights="random", twin=None), changes


def own(**changes: Any) -> Model:
    factory = {"_target_": f"{__name__}.scaled", "width": 1 << 20}
    return Model("own", factory, {"x": Input("float32", ("batch", 1 << 20))}, {"batch": BATCH}, weights="none", **changes)


@dataclass(frozen=True)
class Adding(ToMHLO):
    """Lowers to a program that adds where it should multiply."""

    def apply(self, program: Program, note: Note) -> Program:
        result = super().apply(program, note)
        text = mlir.text(result.ir, elide=None).replace("mhlo.multiply", "mhlo.add")
        return replace(result, ir=mlir.parse(text, mlir.create_hlo_context()))


def run(model: Model, folder: Path, store: Path | None = None, mhlo: Stage | None = None) -> JobResult:
    folder.mkdir(parents=True)
    stages = {"export": Export(), "torchscript": ToTorchScript(), "torch": ToTorchDialect(), "stablehlo": ToStableHLO(),
              "mhlo": mhlo or ToMHLO(), "verify": Verify(points=2, platforms=("cpu",))}
    return pipeline.run(Job(model, stages), folder, store=store)


def test_the_verification_of_the_twin_counts_for_the_model(tmp_path: Path) -> None:
    result = run(own(), tmp_path / "job", tmp_path / "store")
    assert (result.outcome, result.unverified) == ("ok", "")
    assert result.verified_on == "a twin with width 4" and result.verify["points"]
    assert "verified_on_twin" in [warning.code for warning in result.warnings]
    again = run(own(), tmp_path / "again", tmp_path / "store")
    assert [stage.cache for stage in again.stages] == ["hit"] * 6 and again.verify == result.verify
    other = run(own(twin={"width": 6}), tmp_path / "other", tmp_path / "store")
    assert other.verified_on == "a twin with width 6"


def test_a_twin_that_computes_wrong_numbers_is_a_mismatch_of_the_model(tmp_path: Path) -> None:
    result = run(own(), tmp_path / "job", mhlo=Adding())
    assert (result.outcome, result.stage, result.verified_on) == ("mismatch", "verify", "")
    assert result.problems[0].place.startswith("the twin (width 4): ")


def test_a_twin_that_does_not_fit_its_inputs_is_an_error_that_names_it(tmp_path: Path) -> None:
    result = run(own(twin={"width": 4, "scale": "wide"}), tmp_path / "job")
    assert (result.outcome, result.stage) == ("load_error", "verify")
    assert result.problems[0].place.startswith("the twin in export: ")


def test_without_a_rule_the_job_says_why_it_is_unverified(tmp_path: Path) -> None:
    model = Model("mlp", {"_target_": "lowering.sources.mlp.MLP", "width_in": 4, "width_hidden": 4, "width_out": 4},
                  {"features": Input("float32", ("batch", 4))}, {"batch": BATCH}, weights="none")
    result = run(model, tmp_path / "job")
    assert (result.outcome, result.unverified, result.verified_on) == ("ok", "no level was compared with eager", "")
    warned = [warning.message for warning in result.warnings if warning.code == "weights_faked"]
    assert "no rule makes a small model of lowering.sources.mlp.MLP" in warned[0]


@pytest.mark.parametrize(("config", "architecture", "kwargs", "expected"), [
    ("LlamaConfig", "LlamaForCausalLM", LARGE, {"hidden_size": 64, "num_hidden_layers": 2, "head_dim": 128, "vocab_size": 512}),
    ("GPT2Config", "GPT2LMHeadModel", {"n_embd": 1600, "n_layer": 48, "n_head": 25}, {"n_layer": 2, "vocab_size": 512, "bos_token_id": 0}),
    ("Gemma3TextConfig", "Gemma3ForCausalLM", {**LARGE, "num_hidden_layers": 26}, {"num_hidden_layers": 6, "hidden_size": 64}),
    ("DeepseekV3Config", "DeepseekV3ForCausalLM", {"num_hidden_layers": 8, "first_k_dense_replace": 3, "n_routed_experts": 16},
     {"num_hidden_layers": 4, "hidden_size": 64, "moe_intermediate_size": 128}),
    ("Mamba2Config", "Mamba2ForCausalLM", {"num_hidden_layers": 12, "hidden_size": 1024, "num_heads": 32, "head_dim": 64},
     {"num_hidden_layers": 2}),
], ids=lambda value: value if isinstance(value, str) and value.endswith("Config") else "")
def test_a_twin_has_few_layers_of_each_kind_and_the_same_heads(config: str, architecture: str, kwargs: dict[str, Any],
                                                               expected: dict[str, Any]) -> None:
    twin, changes = huggingface.make_twin(large(config, architecture, kwargs))
    assert expected.items() <= changes.items()
    assert ("hidden_size" in changes) == ("hidden_size" in expected)
    assert twin.weights == "random" and twin.factory["kwargs"] == {**kwargs, **changes}
    whole, small = (huggingface.make_config(config, given) for given in (kwargs, twin.factory["kwargs"]))
    for key in ("num_attention_heads", "num_heads", "num_key_value_heads", "n_routed_experts"):
        assert getattr(whole, key, None) == getattr(small, key, None)


def test_inputs_follow_the_layers_and_words_of_the_twin() -> None:
    cache = {"_target_": "transformers.DynamicCache", "layers": {"repeat": 32, "keys": Input("float32", ("batch", 8, 3, 128)),
                                                                "values": Input("float32", ("batch", 8, 3, 128))}}
    model = large("LlamaConfig", "LlamaForCausalLM", LARGE)
    model = replace(model, inputs={**model.inputs, "past_key_values": cache}, after=model)
    twin, _ = huggingface.make_twin(model)
    assert twin.inputs["past_key_values"]["layers"]["repeat"] == 2
    assert twin.inputs["past_key_values"]["layers"]["keys"].shape == ("batch", 8, 3, 128)
    assert twin.inputs["input_ids"].fill == {"randint": [0, 512]}
    assert twin.after is not None and twin.after.weights == "random" and twin.after.factory == twin.factory


def test_a_width_that_an_input_has_stays() -> None:
    model = large("LlamaConfig", "LlamaModel", LARGE)
    _, changes = huggingface.make_twin(replace(model, inputs={"inputs_embeds": Input("float32", ("batch", 4, 4096))}))
    assert "hidden_size" not in changes and "head_dim" not in changes


def test_a_config_of_several_models_needs_its_changes_named() -> None:
    with pytest.raises(LoadError, match=r"holds the configs of several models.*under twin: in the model's file"):
        huggingface.make_twin(large("LlavaConfig", "LlavaForConditionalGeneration", {}))
    changes = {"text_config": {"num_hidden_layers": 1}}
    twin, found = huggingface.make_twin(large("LlavaConfig", "LlavaForConditionalGeneration",
                                              {"text_config": {"model_type": "llama", "num_hidden_layers": 32}}, twin=changes))
    assert found == changes and twin.factory["kwargs"]["text_config"] == {"model_type": "llama", "num_hidden_layers": 1}


def test_changes_of_a_twin_need_a_model_without_weights() -> None:
    problems = model_checks.find_problems(replace(own(twin={"width": 4}), weights="random"), "models.own")
    assert [problem.place for problem in problems] == ["models.own.twin"]
