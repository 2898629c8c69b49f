"""A decoder of transformers with two layers, whose growing cache is an argument."""

from __future__ import annotations

from typing import Any

from lowering.model import Input, Model, Symbol

_SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
          "head_dim": 8, "vocab_size": 64, "max_position_embeddings": 1024}
FACTORY = {"_target_": "lowering.sources.huggingface.build", "config": "LlamaConfig", "architecture": "LlamaForCausalLM", "kwargs": _SIZES}


def decode() -> Model:
    """One new token after `past` others."""
    states = Input("float32", ("batch", 2, "past", 8))
    cache: Any = {"_target_": "transformers.DynamicCache", "layers": {"repeat": 2, "keys": states, "values": states}}
    tokens, mask = Input("int64", ("batch", 1), fill={"randint": [0, 64]}), Input("int64", ("batch", "past + 1"), fill="ones")
    inputs = {"input_ids": tokens, "attention_mask": mask, "past_key_values": cache}
    return Model("llama-decode", FACTORY, inputs, {"batch": Symbol(1, 8), "past": Symbol(1, 511)})


def static() -> Model:
    """One new token after five others, in a cache of fixed length that is written in place."""
    states = Input("float32", ("batch", 2, 32, 8))
    length = Input("int64", (), {"constant": 5})
    layers = {"repeat": 2, "keys": states, "values": states, "cumulative_length": length}
    cache: Any = {"_target_": "transformers.StaticCache", "state": True, "layers": layers}
    inputs = {"input_ids": Input("int64", ("batch", 1), fill={"randint": [0, 64]}), "past_key_values": cache}
    return Model("llama-static", FACTORY, inputs, {"batch": Symbol(1, 8)})
