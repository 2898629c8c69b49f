"""Gradients of singular values, singular vectors and pseudoinverses are torch's, for tall, wide and square matrices."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from lowering.ops.algebra import factor_gradients

Tensor = torch.Tensor
LOSSES: dict[str, Callable[..., Tensor]] = {
    "values": lambda left, values, adjoint: values.prod(-1).sum(),
    "left": lambda left, values, adjoint: _weigh(left.abs()),
    "right": lambda left, values, adjoint: _weigh(adjoint.abs()),
    "all": lambda left, values, adjoint: _weigh(left.abs()) + _weigh(values.cos()) * _weigh(adjoint.square()),
}


def _weigh(tensor: Tensor) -> Tensor:
    return (tensor * torch.arange(tensor.numel()).view_as(tensor)).sum()


def _make(rows: int, columns: int) -> Tensor:
    return torch.randn(2, rows, columns, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4)])
@pytest.mark.parametrize("loss", list(LOSSES))
def test_singular_values_and_vectors(loss: str, shape: tuple[int, int]) -> None:
    matrix = _make(*shape)
    got, want = (torch.autograd.grad(LOSSES[loss](*svd(matrix, full_matrices=False)), matrix)[0]
                 for svd in (factor_gradients.svd, torch.linalg.svd))
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize("shape", [(3, 5), (5, 3), (4, 4)])
def test_pseudoinverses(shape: tuple[int, int]) -> None:
    matrix = _make(*shape)
    got, want = (torch.autograd.grad(_weigh(invert(matrix)), matrix)[0] for invert in (factor_gradients.pseudoinverse, torch.linalg.pinv))
    torch.testing.assert_close(got, want)
