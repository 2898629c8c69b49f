"""Models from transformers configs: what is refused, and what the weights are."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode

from lowering.errors import LoadError
from lowering.sources import huggingface, weights

TINY = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 32}


def refused(*arguments: Any) -> str:
    with pytest.raises(LoadError) as raised:
        huggingface.build(*arguments)
    return str(raised.value)


def test_a_class_that_is_missing_is_named_with_its_near_miss() -> None:
    assert "has no 'BrtConfig' (did you mean 'BertConfig'?)" in refused("BrtConfig", "BertModel")
    assert "has no 'BertModle' (did you mean 'BertModel'?)" in refused("BertConfig", "BertModle")


def test_config_keys_that_nothing_reads_are_all_refused() -> None:
    message = refused("BertConfig", "BertModel", TINY | {"hiden_size": 3, "num_hidden_layer": 2})
    assert "kwargs.hiden_size: BertConfig has no such key (did you mean 'hidden_size'?)" in message
    assert "kwargs.num_hidden_layer" in message and "kwargs.vocab_size" not in message


def test_config_keys_that_only_the_code_of_a_model_reads_are_taken() -> None:
    tiny = {"vocab_size": 16, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
            "num_experts": 2}
    module = huggingface.build("Qwen3MoeConfig", "Qwen3MoeForCausalLM", {**tiny, "head_dim": 4, "cls_token_id": 0})
    assert module.get_submodule("model.layers.0.self_attn.k_proj").weight.shape == (4, 16)


def test_an_architecture_of_another_config_is_refused() -> None:
    assert "'GPT2Model' takes a GPT2Config, not a BertConfig" in refused("BertConfig", "GPT2Model", TINY)


def test_attention_and_dtype_are_as_asked() -> None:
    model: Any = huggingface.build("BertConfig", "BertModel", TINY, attention="eager", dtype="bfloat16")
    assert model.config._attn_implementation == "eager"
    assert not model.training
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_no_weight_is_left_constant() -> None:
    kwargs = {"embedding_size": 8, "hidden_sizes": [16], "depths": [1]}
    model = huggingface.build("ResNetConfig", "ResNetForImageClassification", kwargs)
    values = dict(model.named_parameters()) | {name: buffer for name, buffer in model.named_buffers() if buffer.is_floating_point()}
    assert any(name.endswith("running_var") for name in values)
    assert [name for name, value in values.items() if value.numel() > 1 and len(value.unique()) == 1] == []


def test_weights_that_the_architectures_initialiser_does_not_reach_are_drawn_too(monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import BertModel

    monkeypatch.setattr(BertModel, "_init_weights", lambda self, module: None)
    model = huggingface.build("BertConfig", "BertModel", TINY)
    assert [name for name, value in model.named_parameters() if not value.isfinite().all() or len(value.unique()) == 1] == []


def test_the_same_seed_draws_the_same_weights_and_tied_ones_stay_one() -> None:
    drawn = []
    for _ in range(2):
        torch.manual_seed(3)
        drawn.append(huggingface.build("GPT2Config", "GPT2LMHeadModel", {"vocab_size": 64, "n_embd": 16, "n_layer": 1, "n_head": 2}))
    first, second = drawn
    assert all(torch.equal(one, other) for one, other in zip(first.parameters(), second.parameters(), strict=True))
    assert first.get_parameter("lm_head.weight") is first.get_parameter("transformer.wte.weight")


def test_spread_keeps_what_was_drawn_and_stays_near_what_was_constant() -> None:
    linear, norm = nn.Linear(4, 8), nn.BatchNorm1d(8)
    module = nn.Sequential(linear, norm)
    module.register_buffer("table", torch.zeros(5))
    drawn = linear.weight.detach().clone()
    weights.spread(module, by=0.1)
    assert torch.equal(linear.weight, drawn) and not module.get_buffer("table").any()
    for value, around in ((norm.weight, 1), (norm.bias, 0), (norm.running_mean, 0), (norm.running_var, 1)):
        assert value is not None
        assert len(value.unique()) == 8 and float((value.detach() - around).abs().max()) <= 0.1


def test_fake_weights_stay_fake() -> None:
    with FakeTensorMode():
        model = huggingface.build("BertConfig", "BertModel", TINY)
    assert all(isinstance(parameter.data, torch._subclasses.FakeTensor) for parameter in model.parameters())
