"""Small sizes of architectures: models whose configs are nested, or whose sizes depend on each other."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import pytest
import transformers

from lowering.recipe import TARGET
from lowering.sources import huggingface, huggingface_proposal, huggingface_sizes, trials


@pytest.mark.parametrize("architecture", [
    "CodeGenForCausalLM",  # a rotated part of each head
    "ZambaForCausalLM",  # weights tied between two layers of one kind
    "InternVLForConditionalGeneration",  # the class of an inner config is a key
    "CHMv2ForDepthEstimation",  # the outer config sets keys of the inner one
    "Cosmos3EdgeTextModel",  # sections of the size of a head
    "BltForCausalLM",  # several tables of words
    "CsmForConditionalGeneration",  # groups of a convolution
])  # fmt: skip
def test_the_proposed_model_is_small_and_takes_its_inputs(architecture: str) -> None:
    found = huggingface_proposal.propose(architecture)
    assert found.complete and found.weights is None and found.notes[0].startswith("The sizes are small")
    module = trials.build(partial(huggingface.build, **{key: value for key, value in found.factory.items() if key != TARGET}))
    assert sum(parameter.numel() for parameter in module.parameters()) <= huggingface_proposal.FEW


@pytest.mark.parametrize(("config", "key", "kinds"), [
    ("Gemma3TextConfig", "layer_types", ["sliding_attention", "full_attention"]),
    ("Qwen3NextConfig", "layer_types", ["linear_attention", "full_attention"]),
])  # fmt: skip
def test_a_small_model_has_a_layer_of_each_kind(config: str, key: str, kinds: list[str]) -> None:
    small = next(huggingface_sizes.propose_sizes(getattr(transformers, config)))
    assert small[key] == kinds and small["num_hidden_layers"] == len(kinds)


@pytest.mark.parametrize(("kinds", "least", "copies", "layers"), [
    ([], 2, 1, [0, 1]), (list("aab"), 2, 1, [0, 2]), (list("aabab"), 2, 2, [0, 1, 2, 4]), (list("aaaa"), 3, 1, [0, 1, 2]),
])  # fmt: skip
def test_layers_are_chosen_by_kind(kinds: list[Any], least: int, copies: int, layers: list[int]) -> None:
    assert huggingface_sizes._choose_layers(kinds, least, copies) == layers


def test_a_reason_that_does_not_depend_on_sizes_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    built: list[Any] = []
    monkeypatch.setattr(trials, "build", lambda make: built.append(make) or make())  # type: ignore[func-returns-value]
    found = huggingface_proposal.propose("BrosModel")
    assert "You have to specify bbox" in found.refusal and found.notes[0].startswith("The sizes are small")
    assert len(built) == 2  # small, and by default


def test_transformers_does_not_warn_of_the_configs_that_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[logging.LogRecord] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", said.append)
    logger, before = logging.getLogger("transformers"), transformers.logging.get_verbosity()
    logger.addHandler(handler)
    transformers.logging.set_verbosity_warning()
    try:
        huggingface_proposal.propose("ModernBertModel")  # its tokens of classes are none of a small vocabulary
        assert said == [] and transformers.logging.get_verbosity() == logging.WARNING
    finally:
        logger.removeHandler(handler)
        transformers.logging.set_verbosity(before)
