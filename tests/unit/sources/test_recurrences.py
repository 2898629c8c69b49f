"""Recurrences that an export keeps as scans: the same states and results as the loops of transformers."""

from __future__ import annotations

import pytest
import torch

from lowering.sources import huggingface, recurrences

TINY = {"vocab_size": 16, "hidden_size": 64, "num_hidden_layers": 1, "num_blocks": 1, "num_heads": 2, "chunk_size": 16, "pad_token_id": 0,
        "bos_token_id": 1, "eos_token_id": 2}


@pytest.fixture(scope="module")
def backend() -> torch.nn.Module:
    module = huggingface.generation("xLSTMConfig", "xLSTMForCausalLM", TINY, max_length=64)
    return next(part for part in module.modules() if type(part).__name__ == "xLSTMBackend")


def make(tokens: int, has_state: bool) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(tokens)
    shapes = {"query": (2, 2, tokens, 8), "key": (2, 2, tokens, 8), "value": (2, 2, tokens, 12), "igate": (2, 2, tokens),
              "fgate": (2, 2, tokens)}
    states = {"c_initial": (2, 2, 8, 12), "n_initial": (2, 2, 8), "m_initial": (2, 2, 1)}
    return {name: torch.randn(shape, generator=generator) for name, shape in {**shapes, **(states if has_state else {})}.items()}


@pytest.mark.parametrize(("tokens", "has_state"), [(1, True), (5, False), (35, True)])  # 35: two chunks and three tokens
def test_the_scan_of_an_export_gives_what_the_loops_give(backend: torch.nn.Module, tokens: int, has_state: bool) -> None:
    given = make(tokens, has_state)
    assert isinstance(backend._inference_fn, recurrences._Mlstm)
    hidden, states = backend(**given)
    program = torch.export.export(backend, (), given)
    assert "scan" in {node.target.name() for node in program.graph.nodes if node.op == "call_function" and hasattr(node.target, "name")}
    got, after = program.module()(**given)
    assert torch.allclose(got, hidden, rtol=1e-4, atol=1e-5)
    assert all(torch.allclose(mine, other, rtol=1e-4, atol=1e-5) for mine, other in zip(after, states, strict=True))
