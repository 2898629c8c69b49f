"""Jobs whose MHLO is verified, and programs to verify."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from lowering import pipeline
from lowering.job import Job
from lowering.level import Level, Program
from lowering.model import Input, Model, Symbol
from lowering.record.result import JobResult
from lowering.stage import Silent
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from lowering.stages.verify import Verify

ROWS = {"x": Input("float32", ("n", 6))}


def model(kind: type[torch.nn.Module], inputs: dict[str, Input] | None = None, low: int = 1, high: int = 16, **settings: Any) -> Model:
    return Model(kind.__name__, {"_target_": f"{kind.__module__}.{kind.__name__}"}, inputs or ROWS, {"n": Symbol(low, high)}, **settings)


def lowered(declared: Model, folder: Path, **options: Any) -> JobResult:
    stages = {"export": Export(), "torchscript": ToTorchScript(), "torch": ToTorchDialect(), "stablehlo": ToStableHLO(), "mhlo": ToMHLO(),
              "verify": Verify(platforms=("cpu",), **{"levels": ("mhlo",), **options})}
    return pipeline.run(Job(declared, stages), folder)


def codes(result: JobResult) -> set[str]:
    return {remark.code for remark in result.warnings if remark.stage == "verify"}


def exported(declared: Model) -> Program:
    return Export().apply(Program(Level.MODEL, declared), Silent())


class Random(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        dropout = torch.nn.functional.dropout
        return {"noisy": x + torch.randn_like(x), "kept": 2 * x, "dropped": dropout(torch.ones_like(x), 0.3, True),
                "still": dropout(x, 0.3, False)}


class Never(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1
