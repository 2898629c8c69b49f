"""Decoders of transformers with two layers, whose growing cache is given and returned as flat tensors."""

from __future__ import annotations

from typing import Any

import torch
from transformers import DynamicCache

from lowering.model import Input, Model, Symbol
from lowering.sources import huggingface

_SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
          "vocab_size": 64, "max_position_embeddings": 1024}
CONFIGS: dict[str, tuple[str, str, dict[str, Any], str | None]] = {
    "llama": ("LlamaConfig", "LlamaForCausalLM", _SIZES, None),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", _SIZES, None),
    "mixtral": ("MixtralConfig", "MixtralForCausalLM", {**_SIZES, "num_local_experts": 4}, "batched_mm"),
    "gemma3": ("Gemma3TextConfig", "Gemma3ForCausalLM", {**_SIZES, "sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}, None),
    "gpt-oss": ("GptOssConfig", "GptOssForCausalLM", {**_SIZES, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 16}, "batched_mm"),
}


class Prefill(torch.nn.Module):
    """The logits of a prompt, and the cache that it leaves."""

    def __init__(self, name: str) -> None:
        super().__init__()
        config, architecture, kwargs, experts = CONFIGS[name]
        self.model = huggingface.build(config, architecture, kwargs, experts=experts)  # type: ignore[arg-type]

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return self.run(input_ids, attention_mask, DynamicCache())

    def run(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, cache: DynamicCache) -> tuple[torch.Tensor, ...]:
        logits = self.model(input_ids=input_ids, attention_mask=attention_mask, past_key_values=cache, use_cache=True).logits
        return logits, *(tensor for layer in cache.layers for tensor in (layer.keys, layer.values))


class Decode(Prefill):
    """The logits of one new token after `past` others, and the cache with it."""

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, k0: torch.Tensor, v0: torch.Tensor, k1: torch.Tensor,  # type: ignore[override]
                v1: torch.Tensor) -> tuple[torch.Tensor, ...]:
        cache = DynamicCache()
        for layer, (keys, values) in enumerate(((k0, v0), (k1, v1))):
            cache.update(keys, values, layer)
        return self.run(input_ids, attention_mask, cache)


def prefill(name: str) -> Model:
    inputs = {"input_ids": _ids("batch", "seq"), "attention_mask": _ones("batch", "seq")}
    return Model(f"{name}-prefill", _factory("Prefill", name), inputs, {"batch": Symbol(1, 8), "seq": Symbol(1, 512)})


def decode(name: str) -> Model:
    cache = {word: Input("float32", ("batch", 2, "past", 8)) for word in ("k0", "v0", "k1", "v1")}
    inputs = {"input_ids": _ids("batch", 1), "attention_mask": _ones("batch", "past + 1"), **cache}
    return Model(f"{name}-decode", _factory("Decode", name), inputs, {"batch": Symbol(1, 8), "past": Symbol(1, 511)})


def _factory(kind: str, name: str) -> dict[str, Any]:
    return {"_target_": f"{__name__}.{kind}", "name": name}


def _ids(*shape: int | str) -> Input:
    return Input("int64", shape, fill={"randint": [0, 64]})


def _ones(*shape: int | str) -> Input:
    return Input("int64", shape, fill="ones")
