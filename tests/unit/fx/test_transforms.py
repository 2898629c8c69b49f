"""Gradients that forward computes by torch.func or torch.autograd are ops of the program, with dynamic sizes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import shapeline
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


class Forces(nn.Module):
    """A model of molecules: the forces are the gradients of an energy of distances, by torch.autograd."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 1)

    def forward(self, places: torch.Tensor) -> dict[str, torch.Tensor]:
        with torch.enable_grad():
            places = places.detach().requires_grad_()
            distances = torch.sqrt((places[:, None] - places).square().sum(-1) + 1)
            energy = self.layer(torch.stack([torch.exp(-distances / width) for width in range(1, 5)], -1)).sum()
            gradient = torch.autograd.grad(energy, places, create_graph=True)[0]
        return {"energy": energy, "forces": -gradient}


class Recurrent(nn.Module):
    """Differentiates a recurrent layer and a layer of a batch of sequences."""

    def __init__(self) -> None:
        super().__init__()
        self.recurrent = nn.GRU(3, 2, batch_first=True)
        self.layer = nn.Linear(3, 2)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (torch.func.grad(lambda y: self.recurrent(y)[0].square().sum())(x),
                torch.func.grad(lambda y: nn.functional.silu(self.layer(y)).sum())(x))


class PerSample(nn.Module):
    """Clips the gradient of each sample, as training with differential privacy does."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.words, self.head = nn.Embedding(5, 4, padding_idx=0), nn.Linear(4, 5)

    def loss(self, parameters: dict[str, torch.Tensor], words: torch.Tensor) -> torch.Tensor:
        scores = torch.func.functional_call(self, parameters, (words[:-1], True))
        weight = torch.tensor([1.0, 2.0, 1.0, 0.5, 1.0])
        kept = nn.functional.cross_entropy(scores, words[1:], weight, ignore_index=3, reduction="sum")
        return kept + nn.functional.cross_entropy(scores[0], words[1]) + scores.gather(1, words[1:, None]).mean()

    def forward(self, x: torch.Tensor, scores: bool = False) -> Any:
        if scores:
            return self.head(self.words(x).tanh())
        gradients = torch.vmap(torch.func.grad(self.loss), in_dims=(None, 0))(dict(self.named_parameters()), x)
        norms = torch.stack([each.flatten(1).square().sum(1) for each in gradients.values()]).sum(0).sqrt()
        return [each / norms.clamp(min=1).reshape(-1, *(1 for _ in each.shape[1:])) for each in gradients.values()]


def test_gradients_of_each_sample() -> None:
    lowered = shapeline.lower(PerSample(), (torch.tensor([[1, 2, 3, 0], [4, 0, 3, 1], [3, 3, 3, 3]]),),
                              dynamic_shapes={"x": {0: "n", 1: "length"}},
                              symbols={"n": (1, 9), "length": (2, 9)}, fills={"x": {"randint": [0, 4]}})  # fmt: skip
    assert len(lowered.verify(3).points) >= 3


@pytest.mark.parametrize(("module", "x", "dims"), [
    (Forces(), torch.randn(5, 3), {0: "n"}), (Recurrent(), torch.randn(3, 2, 3), {0: "n"}),
])  # fmt: skip
def test_gradients_of_layers_in_forward(module: nn.Module, x: torch.Tensor, dims: dict[int, str]) -> None:
    shapeline.lower(module, (x,), dynamic_shapes=(dims,), symbols={"n": (1, 9)}).verify(3)


def test_gradients_in_forward(tmp_path: Path) -> None:
    model = Model("energy", {"_target_": f"{__name__}.Energy"}, {"x": Input("float32", ("n", 3))}, {"n": Symbol(1, 9)})
    stages = {"export": Export(archive=False), "torchscript": ToTorchScript(), "torch": ToTorchDialect(), "stablehlo": ToStableHLO(),
              "mhlo": ToMHLO(), "verify": Verify(points=3)}  # fmt: skip
    result = pipeline.run(Job(model, stages), tmp_path)
    assert (result.outcome, result.problems) == ("ok", ())
    assert len(result.verify["points"]) >= 3
