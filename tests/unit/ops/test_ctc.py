"""CTC losses and their gradients are eager's, at every size and length, and keep batch, time and targets dynamic."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional

import shapeline
from lowering import pipeline
from lowering.job import Job
from lowering.model import Input, Model, Symbol
from lowering.ops.sequences import ctc
from lowering.stages.verify import Verify
from shapeline.api import STAGES
from tests.unit.models.ctc_models import Losses

aten = torch.ops.aten


@pytest.mark.parametrize("zero_infinity", [False, True])
@pytest.mark.parametrize("is_concatenated", [False, True])
@pytest.mark.parametrize(("time", "batch", "labels"), [(1, 1, 1), (5, 3, 2), (7, 3, 4), (4, 2, 0)])
def test_losses_and_gradients(time: int, batch: int, labels: int, is_concatenated: bool, zero_infinity: bool) -> None:
    """Lengths of 0, sequences that end early, and targets that need more steps than there are."""
    random = torch.Generator().manual_seed(time)
    steps, ends = (torch.randint(0, most + 1, [batch], generator=random) for most in (time, labels))
    steps[0] = time
    log_probs = torch.randn(time, batch, 4, generator=random).log_softmax(-1)
    targets = torch.randint(0, 3, [int(ends.sum())] if is_concatenated else [batch, labels], generator=random)
    settings, upstream = (3, zero_infinity), torch.randn(batch, generator=random)
    loss, log_alpha = aten._ctc_loss.default(log_probs, targets, steps.tolist(), ends.tolist(), *settings)
    ours, rows = ctc.ctc_loss(log_probs, targets, steps, ends, *settings)
    torch.testing.assert_close(ours, loss)
    torch.testing.assert_close(
        ctc.ctc_loss_backward(upstream, log_probs, targets, steps, ends, ours, rows, *settings),
        aten._ctc_loss_backward.default(upstream, log_probs, targets, steps.tolist(), ends.tolist(), loss, log_alpha, *settings),
        equal_nan=True)


def test_dynamic_sizes() -> None:
    given = torch.randn(7, 3, 5), torch.randint(1, 5, [3, 4]), torch.tensor([7, 6, 5]), torch.tensor([4, 2, 1])
    dims = {"scores": {0: "time", 1: "batch"}, "targets": {0: "batch", 1: "labels"}, "steps": {0: "batch"}, "ends": {0: "batch"}}
    lowered = shapeline.lower(Losses(), given, dynamic_shapes=dims, symbols={"time": (2, 40), "batch": (2, 9), "labels": (1, 8)})
    random = torch.Generator().manual_seed(0)
    for time, batch, labels in ((2, 2, 1), (13, 5, 6)):
        given = (torch.randn(time, batch, 5, generator=random), torch.randint(1, 5, [batch, labels], generator=random),
                 torch.randint(1, time + 1, [batch], generator=random), torch.randint(0, labels + 1, [batch], generator=random))
        torch.testing.assert_close(lowered(*given), Losses()(*given))


def test_training(tmp_path: Path) -> None:
    inputs = {"x": Input("float32", ("time", "batch", 4)), "targets": Input("int64", ("batch", 3), {"randint": [1, 5]}),
              "steps": Input("int64", ("batch",), {"randint": [5, 6]}), "ends": Input("int64", ("batch",), {"randint": [1, 4]})}
    symbols = {"time": Symbol(6, 20), "batch": Symbol(1, 9)}
    model = Model("recognizer", {"_target_": "tests.unit.models.ctc_models.Recognizer"}, inputs, symbols, mode="training", loss="output")
    stages = {name: stage() for name, stage in STAGES.items()} | {"verify": Verify(points=3)}
    result = pipeline.run(Job(model, stages), tmp_path)
    assert (result.outcome, result.problems) == ("ok", ())


def test_lists_of_lengths() -> None:
    class Listed(torch.nn.Module):
        def forward(self, scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
            return functional.ctc_loss(scores.log_softmax(-1), targets, [5, 4], [2, 3])

    given = torch.randn(6, 2, 5), torch.randint(1, 5, [5])
    lowered = shapeline.lower(Listed(), given, dynamic_shapes={"scores": {0: "time"}}, symbols={"time": (5, 40)}, until="exported")
    scores = torch.randn(9, 2, 5)
    torch.testing.assert_close(lowered(scores, given[1]), Listed()(scores, given[1]))
