"""Entries of generative models: the arguments that generate() calls a model with, and the dims that vary."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from lowering.errors import LoadError
from lowering.sources import huggingface, huggingface_entries, huggingface_runs

TINY = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8}
LLAMA = {"config": "LlamaConfig", "architecture": "LlamaForCausalLM", "kwargs": TINY, "max_length": 20}
GEMMA = {"config": "Gemma3TextConfig", "architecture": "Gemma3ForCausalLM", "max_length": 32,
         "kwargs": {**TINY, "sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]}}
T5 = {"config": "T5Config", "architecture": "T5ForConditionalGeneration",
      "kwargs": {"vocab_size": 64, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}}


def list_shapes(inputs: dict[str, Any]) -> dict[str, Any]:
    return {name: leaf["shape"] for name, leaf in inputs.items() if "shape" in leaf}


def test_a_decoder_has_a_prompt_and_a_step_with_a_growing_cache() -> None:
    found = huggingface_entries.derive(LLAMA)
    assert found["symbols"] == {"batch": {"min": 1, "max": 16}, "seq": {"min": 1, "max": 20}, "past": {"min": 1, "max": 19}}
    prefill, decode = found["entries"]["prefill"]["inputs"], found["entries"]["decode"]["inputs"]
    assert list_shapes(prefill) == {name: ["batch", "seq"] for name in ("input_ids", "attention_mask", "position_ids")}
    assert list_shapes(decode) == {"input_ids": ["batch", 1], "attention_mask": ["batch", "past + 1"], "position_ids": ["batch", 1]}
    states = {"dtype": "float32", "shape": ["batch", 2, "past", 8]}
    assert decode["past_key_values"] == {"_target_": "transformers.DynamicCache", "layers": {"repeat": 2, "keys": states, "values": states}}
    assert "past_key_values" not in prefill


def test_a_static_cache_is_a_state_of_both_entries_and_empty_before_a_prompt() -> None:
    found = huggingface_entries.derive({**LLAMA, "cache": "static"})
    assert found["symbols"].keys() == {"batch", "seq"}
    prefill, decode = (found["entries"][name]["inputs"]["past_key_values"] for name in ("prefill", "decode"))
    assert prefill["state"] is decode["state"] is True and decode["layers"]["keys"]["shape"] == ["batch", 2, 20, 8]
    assert {leaf["fill"] for leaf in prefill["layers"].values() if isinstance(leaf, dict)} == {"zeros"}
    assert decode["layers"]["cumulative_length"] == {"dtype": "int64", "shape": [], "fill": {"constant": 7}}


def test_layers_with_a_window_keep_all_tokens_and_compute_what_transformers_does() -> None:
    tokens = torch.randint(64, (2, 11), generator=torch.Generator().manual_seed(0))
    plain, wide = (seeded(build) for build in (huggingface.build, huggingface.generation))
    with torch.no_grad():
        want, got = plain(tokens), wide(tokens)
        assert want.past_key_values.layers[0].keys.shape[2] == 5 and got.past_key_values.layers[0].keys.shape[2] == 11
        for step in range(3):
            assert torch.allclose(got.logits[:, -1], want.logits[:, -1], atol=1e-5)
            token = want.logits[:, -1:].argmax(-1)
            want, got = (module(token, past_key_values=made.past_key_values) for module, made in ((plain, want), (wide, got)))
            assert got.past_key_values.layers[0].keys.shape[2] == 12 + step
    decode = huggingface_entries.derive(GEMMA)["entries"]["decode"]["inputs"]["past_key_values"]
    assert decode["windows"] is False and decode["layers"]["repeat"] == 2


def seeded(build: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    module: torch.nn.Module = build(GEMMA["config"], GEMMA["architecture"], GEMMA["kwargs"])
    return module


def test_an_encoder_is_an_entry_whose_result_the_others_take() -> None:
    entries = huggingface_entries.derive(T5)["entries"]
    assert list(entries) == ["encoder", "prefill", "decode"] and entries["encoder"]["method"] == "encoder"
    assert list_shapes(entries["encoder"]["inputs"]) == {name: ["batch", "source"] for name in ("input_ids", "attention_mask")}
    assert entries["prefill"]["inputs"]["encoder_outputs"]["last_hidden_state"]["shape"] == ["batch", "source", 32]
    assert list_shapes(entries["prefill"]["inputs"])["decoder_input_ids"] == ["batch", "seq"]
    cache = entries["decode"]["inputs"]["past_key_values"]
    assert cache["self_attention_cache"]["layers"]["keys"]["shape"] == ["batch", 4, "past", 8]
    assert cache["cross_attention_cache"]["layers"]["keys"]["shape"] == ["batch", 4, "source", 8]


def test_a_model_of_images_and_text_has_parts_for_images_and_a_prompt_of_embeddings() -> None:
    vision = {"model_type": "clip_vision_model", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2,
              "num_attention_heads": 2, "image_size": 8, "patch_size": 4}
    arguments = {"config": "LlavaConfig", "architecture": "LlavaForConditionalGeneration", "max_length": 20,
                 "kwargs": {"vision_config": vision, "text_config": {"model_type": "llama", **TINY}}}
    found = huggingface_entries.derive(arguments)
    shapes = {name: list_shapes(entry["inputs"]) for name, entry in found["entries"].items()}
    assert list(shapes) == ["image_encoder", "multi_modal_projector", "embedding", "prefill", "decode"]
    assert shapes["image_encoder"] == {"pixel_values": ["images", 3, 8, 8]}
    assert shapes["multi_modal_projector"] == {"image_features": ["images", 4, 16]} and shapes["embedding"] == {"input": ["batch", "seq"]}
    assert shapes["prefill"]["inputs_embeds"] == ["batch", "seq", 32] and "input_ids" not in shapes["prefill"]
    assert {name: entry["after"] for name, entry in found["entries"].items() if "after" in entry} == {"decode": "prefill"}
    encoder = huggingface.generation(**arguments).get_submodule(found["entries"]["image_encoder"]["method"])
    assert len(encoder(torch.randn(1, 3, 8, 8)).hidden_states) == 3, "the projector takes the last but one"


def test_a_large_model_is_run_with_one_layer_and_has_its_own_caches(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = huggingface_entries.derive(LLAMA)
    monkeypatch.setattr(huggingface_runs, "LARGE", 0)
    built: list[Any] = []
    build = huggingface.generation
    monkeypatch.setattr(huggingface, "generation", lambda **arguments: built.append(arguments["kwargs"]) or build(**arguments))
    assert huggingface_entries.derive(LLAMA) == whole
    assert built[0] == TINY | {"num_hidden_layers": 1, "vocab_size": 512, "intermediate_size": 64}


def test_a_state_of_fixed_size_is_a_state_of_the_step() -> None:
    kwargs = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8, "num_heads": 8, "head_dim": 8, "n_groups": 1}
    found = huggingface_entries.derive({"config": "Mamba2Config", "architecture": "Mamba2ForCausalLM", "kwargs": kwargs})
    decode = found["entries"]["decode"]
    assert decode["after"] == "prefill" and list(decode["inputs"]) == ["input_ids", "cache_params"]
    assert found["symbols"].keys() == {"batch", "seq"}
    cache = decode["inputs"]["cache_params"]
    assert cache["state"] is True and cache["layers"]["recurrent_states"]["0"]["shape"] == ["batch", 8, 8, 8]


def test_a_prompt_of_images_and_text_has_the_types_of_its_tokens_where_the_mask_depends_on_them() -> None:
    vision = {"model_type": "siglip_vision_model", "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1,
              "num_attention_heads": 2, "image_size": 8, "patch_size": 4, "vision_use_head": False}
    arguments = {"config": "PaliGemmaConfig", "architecture": "PaliGemmaForConditionalGeneration", "max_length": 20,
                 "kwargs": {"image_token_id": 3, "projection_dim": 32, "vision_config": vision,
                            "text_config": {"model_type": "gemma", **TINY}}}
    entries = huggingface_entries.derive(arguments)["entries"]
    assert list(entries) == ["image_encoder", "multi_modal_projector", "embedding", "prefill", "decode"]
    assert entries["prefill"]["inputs"]["token_type_ids"] == {"dtype": "int64", "shape": ["batch", "seq"], "fill": {"randint": [0, 2]}}
    assert "input_ids" not in entries["prefill"]["inputs"] and "token_type_ids" not in entries["decode"]["inputs"]
    assert list_shapes(entries["embedding"]["inputs"]) == {"input_ids": ["batch", "seq"]}


@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_an_encoder_and_decoder_with_windows_have_a_cache_of_two_wide_caches(cache: str) -> None:
    part = {**TINY, "sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]}
    found = huggingface_entries.derive({"config": "T5GemmaConfig", "architecture": "T5GemmaForConditionalGeneration", "cache": cache,
                                        "max_length": 20, "kwargs": {"vocab_size": 64, "encoder": part, "decoder": part}})
    held = found["entries"]["decode"]["inputs"]["past_key_values"]
    tokens = {name: held[f"{name}_attention_cache"]["layers"]["keys"]["shape"][2] for name in ("self", "cross")}
    assert tokens == {"self": "past" if cache == "dynamic" else 20, "cross": "source"}


def test_layers_without_a_cache_are_null_and_states_that_no_cache_holds_are_refused() -> None:
    hybrid = {"config": "NemotronHConfig", "architecture": "NemotronHForCausalLM", "max_length": 20,
              "kwargs": {**{name: size for name, size in TINY.items() if name != "num_hidden_layers"}, "mamba_num_heads": 4,
                         "mamba_head_dim": 8, "ssm_state_size": 8, "n_groups": 1, "layers_block_type": ["attention", "mlp"]}}
    layers = huggingface_entries.derive(hybrid)["entries"]["decode"]["inputs"]["past_key_values"]["layers"]
    assert layers[0]["keys"]["shape"] == ["batch", 2, "past", 8] and layers[1] is None
    recurrent = {"config": "RecurrentGemmaConfig", "architecture": "RecurrentGemmaForCausalLM", "max_length": 20,
                 "kwargs": {**TINY, "lru_width": 32, "attention_window_size": 6, "block_types": ["recurrent", "attention"]}}
    del recurrent["kwargs"]["head_dim"]  # type: ignore[attr-defined]
    with pytest.raises(LoadError, match="layers 0 of its DynamicCache hold no tensors after a prompt"):
        huggingface_entries.derive(recurrent)


def test_a_cache_is_returned_where_the_config_has_none_by_default() -> None:
    kwargs = {"vocab_size": 64, "d_model": 32, "n_heads": 4, "n_layers": 1, "expansion_ratio": 2, "max_seq_len": 64}
    module = huggingface.generation("MptConfig", "MptForCausalLM", kwargs)
    assert module(torch.tensor([[1, 2, 3]])).past_key_values.get_seq_length() == 3


def test_a_model_that_reads_other_inputs_is_refused_by_their_name() -> None:
    with pytest.raises(LoadError, match="MoonshineForConditionalGeneration reads 'input_values'"):
        huggingface_entries.derive({"config": "MoonshineConfig", "architecture": "MoonshineForConditionalGeneration", "kwargs": {
            "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "encoder_num_hidden_layers": 1, "decoder_num_hidden_layers": 1}})


def test_a_model_that_does_not_generate_is_refused_by_its_cause() -> None:
    with pytest.raises(LoadError, match="generate\\(\\) raised AttributeError: 'BertModel' object has no attribute 'generate'"):
        huggingface_entries.derive({"config": "BertConfig", "architecture": "BertModel",
                                    "kwargs": {"num_hidden_layers": 1, "hidden_size": 24}})
    with pytest.raises(LoadError, match="max_length: is 99, and the model has 64 positions"):
        huggingface.generation("LlamaConfig", "LlamaForCausalLM", TINY | {"max_position_embeddings": 64}, max_length=99)
