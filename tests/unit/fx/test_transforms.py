"""Gradients that forward computes by transforms of torch.func are ops of the program, with dynamic sizes."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from lowering import pipeline
from lowering.job import Job
from lowering.model import Input, Model, Symbol
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from lowering.stages.verify import Verify


class Energy(nn.Module):
    """The force is the gradient of an energy, as in models of molecules."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def energy(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).tanh().square().sum()

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        first = x[:, 0]
        forces = torch.func.grad(self.energy)(x), torch.vmap(torch.func.grad(self.energy))(x)
        jacobians = torch.func.jacrev(torch.sin)(first), torch.func.jacfwd(lambda y: y * y.flip(0))(first)
        by_row = torch.vmap(torch.func.grad(lambda row: nn.functional.layer_norm(row, (3,), self.layer.bias).pow(3).sum()))(x)
        return *forces, *jacobians, by_row, torch.func.vjp(torch.exp, x)[1](x)[0], torch.func.jvp(torch.exp, (x,), (x,))[1]


def test_gradients_in_forward(tmp_path: Path) -> None:
    model = Model("energy", {"_target_": f"{__name__}.Energy"}, {"x": Input("float32", ("n", 3))}, {"n": Symbol(1, 9)})
    stages = {"export": Export(archive=False), "torchscript": ToTorchScript(), "torch": ToTorchDialect(), "stablehlo": ToStableHLO(),
              "mhlo": ToMHLO(), "verify": Verify(points=3)}  # fmt: skip
    result = pipeline.run(Job(model, stages), tmp_path)
    assert (result.outcome, result.problems) == ("ok", ())
    assert len(result.verify["points"]) >= 3
