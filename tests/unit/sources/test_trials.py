"""Trials of proposed inputs, where forward reads values."""

from __future__ import annotations

import torch

from lowering.sources import trials
from lowering.sources.proposal import Proposal, fit_ranges, make_leaf

INPUTS = {"x": {"dtype": "float32", "shape": ["batch", 4]}}


class Reading(torch.nn.Module):
    """A model above the size up to which a refusal is confirmed with values."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit, self.weight = limit, torch.nn.Parameter(torch.empty(int(trials.LARGEST) + 1, dtype=torch.int8), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.sum() > self.limit:
            raise ValueError("too large")
        return x * 2


def test_inputs_whose_values_a_large_model_reads_are_tried_with_values() -> None:
    assert trials.find_refusal(INPUTS, trials.build(lambda: Reading(1.0)), lambda: Reading(1.0)) is None
    refusal = trials.find_refusal(INPUTS, trials.build(lambda: Reading(-1.0)), lambda: Reading(-1.0))
    assert refusal is not None and refusal.startswith("ValueError: too large")


class Square(torch.nn.Module):
    """A model of pictures of one size, and of texts of at most 24 words."""

    def forward(self, x: torch.Tensor, words: torch.Tensor) -> torch.Tensor:
        return x.flatten(1) @ torch.ones(64 * 64, 4) + torch.ones(24, 4)[words.shape[1] - 1]


class Free(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2


def test_a_dim_whose_double_size_is_refused_has_the_size_that_was_tried() -> None:
    inputs = {"x": make_leaf("float32", ["batch", "height", "width"]), "words": make_leaf("int64", ["batch", "seq"])}
    side = {"min": 32, "max": 256}
    spans = {"batch": {"min": 1, "max": 8}, "height": side, "width": side, "seq": {"min": 1, "max": 512}}
    found = fit_ranges(Proposal({}, inputs, spans), Square(), Square)
    assert found.inputs["x"]["shape"] == ["batch", 64, 64] and found.inputs["words"]["shape"] == ["batch", 16]
    assert found.symbols == {"batch": {"min": 1, "max": 8}}
    assert found.notes[0] == "forward refuses height=128: the dim has the size that was tried."
    free = Proposal({}, {"x": inputs["x"]}, {name: spans[name] for name in ("batch", "height", "width")})
    assert fit_ranges(free, Free(), Free) == free
