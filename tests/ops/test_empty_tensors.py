"""Tensors that are empty at all sizes, or at some: eager's numbers, without an op that MHLO lacks."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch.nn import functional

import shapeline
from tests.ops.forms import differences

RANDOM = torch.Generator().manual_seed(0)

ALWAYS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "sum": lambda x: x[:, 8:].sum(1),
    "sum of rows": lambda x: x[:0].sum(0),
    "prod": lambda x: x[:, 8:].prod(),
    "all": lambda x: x[:, 8:].all(1),
    "mean": lambda x: x[:, 8:].mean(1),
    "logsumexp": lambda x: x[:, 8:].logsumexp(1),
    "norm": lambda x: torch.linalg.vector_norm(x[:, 8:], dim=1),
    "pad": lambda x: functional.pad(x[:, 8:], (1, 1), value=3.0),
    "matmul": lambda x: x[:, 8:] @ x[:, 8:].T,
    "cat": lambda x: torch.cat([x[:, 8:], x[:, 9:]], 1),
    "cumprod": lambda x: x[:, 8:].cumprod(0),
    "cumsum": lambda x: x[:, 8:].cumsum(1),
    "log_softmax": lambda x: x[:, 8:].log_softmax(1),
    "gather": lambda x: x[:, 8:].gather(0, x[:1, 8:].long()),
    "bools": lambda x: (x > 0)[:, 8:].flip(1),
    "complex numbers": lambda x: torch.view_as_real(torch.complex(x, x)[:, 8:] * 2).sum(1),
    "cummax": lambda x: x[:, 8:].cummax(0).values,
}


class Rows(torch.nn.Module):
    """Functions of rows of which there may be none."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (x.logsumexp(0), x.logsumexp((0, 1)), x.mean(0), x.prod(0), x.softmax(0), x.T @ x, x.cumsum(0), torch.cat([x, x[:0]]),
                torch.linalg.vector_norm(x, ord=3, dim=0), torch.cov(x.T), torch.cov(x.T, correction=3), x.median(), x.nanmedian(),
                x.nanmedian(1)[0], x[torch.arange(x.shape[0]).flip(0)], x[:, [1, 0]], (x > 0)[torch.arange(x.shape[0])],
                x.roll((1, 2), (0, 1)), x.trace(), x.diagonal(),
                x[:, :3].cdouble().roll(1, 0), (x > 0).roll(1, 0),
                torch.take_along_dim(x, x.argsort(0), 0), torch.linalg.cross(x[:, :3], torch.ones(1, 3)),
                torch.broadcast_tensors(x, torch.ones(1, 1))[1])


def test_tensors_that_are_always_empty() -> None:
    points = [(torch.randn(rows, 6, generator=RANDOM),) for rows in (5, 3, 2)]
    assert differences(ALWAYS, (("n", 6),), points, least=2) == []


def test_a_dim_that_may_be_empty() -> None:
    lowered = shapeline.lower(Rows(), (torch.randn(5, 6, generator=RANDOM),), dynamic_shapes=({0: "n"},), symbols={"n": (0, 9)})
    assert 0 in [point.point.sizes["n"] for point in lowered.verify(4).points]
