"""Complex numbers in the code, and arithmetic with them: what torch-mlir takes for real tensors only."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from benchmarks.op_samples import Sample
from benchmarks.op_trial import attempt

REAL = torch.linspace(-2, 2, 35).reshape(5, 7)
COMPLEX = torch.complex(REAL, REAL.flip(0))
SQUARE = torch.complex(torch.randn(5, 5, generator=torch.Generator().manual_seed(0)),
                       torch.randn(5, 5, generator=torch.Generator().manual_seed(1)))


class Function(torch.nn.Module):
    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x0: torch.Tensor) -> torch.Tensor:
        return self.function(x0)


def rotary(x: torch.Tensor) -> torch.Tensor:
    """Rotary embeddings as Llama's own code has them."""
    turns = torch.polar(torch.ones(4), torch.arange(4.0))
    return torch.view_as_real(torch.view_as_complex(x.reshape(x.shape[0], -1, 2)) * turns).flatten(1)


@pytest.mark.parametrize(("name", "function", "given"), [
    ("a literal times a real tensor", lambda x: x * (2 + 1j), REAL),
    ("literals on both sides", lambda x: (1j - x) / 2j + (3 - 2j), COMPLEX),
    ("exponential", lambda x: torch.exp(1j * x), REAL),
    ("a filled tensor of a dynamic size", lambda x: torch.full((x.shape[0], 2), 1j) * x[:, :2], COMPLEX),
    ("quotient, reciprocal and a number", lambda x: x / x.flip(1) - x.reciprocal() * 2, COMPLEX),
    ("magnitude", lambda x: x.abs() + x.real, COMPLEX),
    ("Cholesky factor", lambda x: torch.linalg.cholesky(x @ x.mH + 9 * torch.eye(x.shape[0])), SQUARE),
    ("rotary embeddings", rotary, torch.randn(5, 8, generator=torch.Generator().manual_seed(2))),
])  # fmt: skip
def test_computes_at_other_shapes_what_eager_does(name: str, function: Callable[..., torch.Tensor], given: torch.Tensor) -> None:
    trial = attempt(Sample(name, "any", Function(function).eval(), {"x0": given}))
    assert trial.outcome == "ok", "\n".join(trial.problems)
    assert trial.points
