"""Sizes divided by negative numbers, and negative sizes divided: Python rounds down, whatever the signs."""

from __future__ import annotations

from pathlib import Path

import torch

from lowering import pipeline
from lowering.job import Job
from lowering.model import Input, Model, Symbol
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from lowering.stages.verify import Verify


class Quotients(torch.nn.Module):
    """A row of zeros as long as each quotient, or remainder, of a size."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> list[torch.Tensor]:
        n, k = x.shape[0], y.shape[0]
        lengths = [-(n // -2), 40 + n // -3, 40 + (-n) // 4, (-n) % 4, 7 + n % -5, 90 + n // (k - 30), 90 - -n // k, -(-(n + k) // 3)]
        return [torch.nn.functional.pad(x.sum().reshape(1), (0, length)) for length in lengths]


def test_quotients_of_all_signs_are_pythons(tmp_path: Path) -> None:
    inputs = {"x": Input("float32", ("n",)), "y": Input("float32", ("k",))}
    model = Model("quotients", {"_target_": f"{__name__}.Quotients"}, inputs, {"n": Symbol(1, 33), "k": Symbol(2, 29)})
    stages = {"export": Export(archive=False), "torchscript": ToTorchScript(), "torch": ToTorchDialect(), "stablehlo": ToStableHLO(),
              "mhlo": ToMHLO(), "verify": Verify(points=8)}
    result = pipeline.run(Job(model, stages), tmp_path)
    assert (result.outcome, result.problems) == ("ok", ())
    assert not any(warning.code in ("guard_within_range", "point_declined") for warning in result.warnings)
