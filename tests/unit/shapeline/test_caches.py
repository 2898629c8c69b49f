"""Caches and states of `shapeline.lower`: as arguments, as buffers, and carried from call to call."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch.export import Dim
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM

import shapeline
from lowering.level import Level


def test_a_language_model_takes_and_returns_its_cache() -> None:
    config = LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
                         num_key_value_heads=1)

    def make(batch: int, past: int) -> dict[str, Any]:
        cache = DynamicCache(config=config)
        cache.update(torch.randn(batch, 1, past, 16), torch.randn(batch, 1, past, 16), 0)
        return {"input_ids": torch.randint(0, 64, (batch, 1)), "past_key_values": cache}

    dims = {0: "batch", 2: "past"}
    lowered = shapeline.lower(
        LlamaForCausalLM(config), kwargs=make(3, 7), dynamic_shapes={"input_ids": {0: "batch"}, "past_key_values": [[dims, dims]]},
        symbols={"batch": (1, 8), "past": (1, 100)})  # fmt: skip
    given = make(2, 11)
    want = lowered.program.at(Level.MODEL).ir.module(**copy.deepcopy(given))  # type: ignore[union-attr]
    got = lowered(**given)
    torch.testing.assert_close(got.logits, want.logits)
    assert type(got.past_key_values) is DynamicCache
    torch.testing.assert_close(got.past_key_values.layers[0].values, want.past_key_values.layers[0].values)


class Counter(torch.nn.Module):
    """Writes to a buffer and to an argument, and returns the argument."""

    total: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(4))

    def forward(self, x: torch.Tensor, cache: list[torch.Tensor]) -> tuple[torch.Tensor, list[torch.Tensor]]:
        self.total.add_(x.sum(0))
        cache[0].copy_(cache[0] + x)
        return x + self.total, cache


@pytest.mark.parametrize("until", ["exported", "mhlo"])
def test_states_are_carried_from_call_to_call(until: str) -> None:
    shapes = {"x": {0: "batch"}, "cache": [{0: "batch"}]}
    module, example = Counter(), (torch.ones(3, 4), [torch.zeros(3, 4)])
    lowered = shapeline.lower(module, example, dynamic_shapes=shapes, symbols={"batch": (1, 8)}, until=until)
    assert not module.total.any()
    ours, theirs = [torch.zeros(2, 4)], [torch.zeros(2, 4)]
    for _ in range(3):
        x = torch.randn(2, 4)
        got, wanted = lowered(x, ours), module(x, theirs)
        torch.testing.assert_close(got, wanted)
        assert got[1][0] is ours[0]
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(lowered.buffers["total"], module.total)


class StaticCache(torch.nn.Module):
    """Attention over a cache of fixed length that is held in buffers, with the number of tokens seen."""

    def __init__(self) -> None:
        super().__init__()
        for name in ("keys", "values"):
            self.register_buffer(name, torch.zeros(1, 2, 8, 4))
        self.register_buffer("length", torch.zeros((), dtype=torch.int64))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = self.length + torch.arange(x.shape[2])
        self.keys.index_copy_(2, rows, x)
        self.values.index_copy_(2, rows, 2 * x)
        self.length += x.shape[2]
        return torch.nn.functional.scaled_dot_product_attention(x, self.keys, self.values, attn_mask=torch.arange(8) <= rows[:, None])


def test_a_static_cache_in_buffers_takes_prompts_and_steps() -> None:
    module = StaticCache()
    lowered = shapeline.lower(module, (torch.randn(1, 2, 3, 4),), dynamic_shapes={"x": {2: Dim("tokens", max=4)}})
    for tokens in (4, 1, 2):
        x = torch.randn(1, 2, tokens, 4)
        torch.testing.assert_close(lowered(x), module(x))
    assert int(lowered.buffers["length"]) == int(module.length) == 7
    torch.testing.assert_close(lowered.buffers["values"], module.values)
