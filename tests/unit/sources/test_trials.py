"""Trials of proposed inputs, where forward reads values."""

from __future__ import annotations

import torch

from lowering.sources import trials

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
