"""Densities of torch.distributions lower without checks of their arguments, which raise for the data at hand. Permutations are drawn."""

from __future__ import annotations

import torch
from torch import distributions
from torch.export import Dim

import shapeline


class Densities(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.prior = distributions.Normal(0.0, 1.0)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        positive, classes = x.exp(), (x > 0).long().sum(-1) % x.shape[1]
        mixture = distributions.MixtureSameFamily(distributions.Categorical(logits=x), distributions.Normal(x, positive))
        squashed = distributions.TransformedDistribution(distributions.Normal(x, 1.0), [distributions.transforms.SigmoidTransform()])
        return (
            self.prior.log_prob(x), distributions.kl_divergence(distributions.Normal(x, positive), self.prior),
            distributions.Categorical(logits=x).log_prob(classes), distributions.Categorical(logits=x).entropy(),
            distributions.Bernoulli(logits=x).log_prob((x > 0).float()), distributions.Gamma(positive, 2.0).log_prob(positive),
            mixture.log_prob(x.mean(1)), squashed.log_prob(x.sigmoid()), *torch.broadcast_tensors(x > 0, x[:1], classes[:, None]),
        )  # fmt: skip


def test_densities() -> None:
    dims = {0: Dim("batch", min=1, max=8), 1: Dim("classes", min=2, max=20)}
    shapeline.lower(Densities(), (torch.randn(3, 7),), dynamic_shapes=(dims,)).verify(4)


class Shuffled(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        order = torch.randperm(x.shape[0])
        return order, x[order].sort().values


def test_permutations() -> None:
    lowered = shapeline.lower(Shuffled(), (torch.randn(5),), dynamic_shapes=({0: Dim("n", min=0, max=20)},))
    lowered.verify(3)
    order, values = lowered(torch.arange(9.0))
    assert torch.equal(order.sort().values, torch.arange(9)) and torch.equal(values, torch.arange(9.0))
