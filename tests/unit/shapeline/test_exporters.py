"""Shapeline behind the exporters of transformers: a small Llama and its entries, exported, run and read back."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch

from lowering.errors import Refused
from lowering.sources import huggingface

KWARGS = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1,
          "intermediate_size": 16}  # fmt: skip


@pytest.fixture(scope="module")
def llama() -> Any:
    torch.manual_seed(0)
    return huggingface.generation("LlamaConfig", "LlamaForCausalLM", KWARGS)


@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_entries_of_generation(llama: Any, cache: str, tmp_path: Path) -> None:
    from transformers import DynamicCache, GenerationConfig, StaticCache
    from transformers.exporters import ExportedModel

    from shapeline.exporters import MhloConfig, MhloExporter

    static = {"cache_implementation": "static", "max_cache_len": 16} if cache == "static" else {}
    config = GenerationConfig(do_sample=False, use_cache=True, pad_token_id=0, eos_token_id=None, **static)
    tokens = torch.randint(0, 64, (2, 5))
    padded = torch.tensor([[0, 1, 1, 1, 1], [1] * 5])
    exported = MhloExporter().export_for_generation(llama, {"input_ids": tokens, "attention_mask": padded},
                                                    MhloConfig(dynamic=True), generation_config=config)  # fmt: skip
    assert exported.export_format == "mhlo" and list(exported.components) == ["prefill", "decode"]
    decode = exported.components["decode"].program
    assert all("?x" in line for line in str(decode.mlir["mhlo"]).splitlines() if "func.func" in line)

    models = [exported]
    if cache == "dynamic":  # files are the same for both
        exported.save_pretrained(tmp_path)
        models.append(ExportedModel.from_pretrained(tmp_path))
    prompt = torch.randint(0, 64, (3, 4))

    def make() -> Any:
        return StaticCache(config=llama.config, max_cache_len=16) if cache == "static" else DynamicCache(config=llama.config)

    with torch.no_grad():
        cached = llama(input_ids=prompt, past_key_values=make(), use_cache=True).past_key_values
        step = {"input_ids": torch.randint(0, 64, (3, 1)), "position_ids": torch.full((3, 1), 4), "attention_mask": torch.ones(3, 5).long()}
        caches = [copy.deepcopy(cached) for _ in models]
        wanted = llama(**step, past_key_values=cached)
    for model, given in zip(models, caches, strict=True):
        inputs = {key: value for key, value in {**step, "past_key_values": given, **masks(decode)}.items()
                  if key in model.components["decode"].metadata.kwargs}
        got = model.runners["decode"](**inputs)
        assert type(got) is type(wanted)
        torch.testing.assert_close(got.logits, wanted.logits)
        torch.testing.assert_close(got.past_key_values.layers[0].keys, wanted.past_key_values.layers[0].keys)
        if cache == "dynamic":
            for rows, columns, said in ((2, 5, "dim 0 of attention_mask must be input_ids_d0 = 3, got 2"),
                                        (3, 4, "dim 1 of attention_mask")):
                with pytest.raises(Refused, match=said):
                    model.runners["decode"](**{**inputs, "attention_mask": torch.ones(rows, columns).long()})
            first = {"input_ids": prompt, "position_ids": torch.arange(4).expand(3, 4), "past_key_values": make()}
            with pytest.raises(Refused, match="dim 1 of attention_mask must be input_ids_d1 = 4, got 3"):
                model.runners["prefill"](**first, attention_mask=torch.ones(3, 3).long())


def masks(decode: Any) -> dict[str, torch.Tensor]:
    found = {argument.name: argument for argument in decode.signature.inputs}
    if len(getattr(found.get("attention_mask"), "dims", ())) != 4:
        return {}
    rows = torch.arange(16) <= 4
    return {"attention_mask": rows.expand(3, 1, 1, 16).to(getattr(torch, found["attention_mask"].dtype))}


def test_parts_of_a_model_of_images_and_text() -> None:
    """The programs of a LLaVA, run one after another at other sizes, make the token that the model makes."""
    from transformers import CLIPVisionConfig, DynamicCache, GenerationConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

    from shapeline.exporters import MhloConfig, MhloExporter

    torch.manual_seed(0)
    vision = CLIPVisionConfig(hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=8, patch_size=4)
    settings = LlavaConfig(vision_config=vision, text_config=LlamaConfig(**KWARGS), image_token_id=63, image_seq_length=4)
    model = LlavaForConditionalGeneration(settings).eval()

    def prompt(batch: int, length: int) -> dict[str, torch.Tensor]:
        tokens = torch.randint(1, 60, (batch, length))
        tokens[:, 1:5] = 63
        return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "pixel_values": torch.randn(batch, 3, 8, 8)}

    config = GenerationConfig(do_sample=False, use_cache=True, pad_token_id=0, eos_token_id=None)
    exported = MhloExporter().export_for_generation(model, prompt(2, 7), MhloConfig(dynamic=True), generation_config=config)
    assert list(exported.components) == ["image_encoder", "multi_modal_projector", "language_model", "lm_head", "decode"]

    given, runs = prompt(3, 9), exported.runners
    with torch.no_grad():
        wanted = model(**given, past_key_values=DynamicCache(config=model.config.text_config))
        embedded = model.get_input_embeddings()(given["input_ids"])
    hidden = runs["image_encoder"](pixel_values=given["pixel_values"]).hidden_states
    images = runs["multi_modal_projector"](image_features=hidden[-2][:, 1:])  # the last but one layer, without its class token
    embedded[given["input_ids"] == 63] = images.flatten(0, 1)
    states = runs["language_model"](inputs_embeds=embedded, position_ids=torch.arange(9).expand(3, 9)).last_hidden_state
    logits = runs["lm_head"](input=states)
    logits = logits if isinstance(logits, torch.Tensor) else logits[0]
    torch.testing.assert_close(logits, wanted.logits)
