"""Linear algebra by a lower Cholesky factor and triangular systems."""

from __future__ import annotations

from typing import TypeAlias

import torch

Tensor: TypeAlias = torch.Tensor


def cholesky(matrix: Tensor, upper: bool = False) -> Tensor:
    """Return the lower or upper Cholesky factor of a matrix."""
    return upper_cholesky(matrix)[0] if upper else torch.ops.aten.linalg_cholesky_ex.default(matrix)[0]


def upper_cholesky(matrix: Tensor, *, upper: bool = True, check_errors: bool = False) -> tuple[Tensor, Tensor]:
    """Return the upper factor of A, of which only the upper triangle is read.

    It is the transposed lower factor of the conjugate transpose of A.
    """
    factor, info = torch.ops.aten.linalg_cholesky_ex.default(matrix.mH)
    return factor.mH, info


def cholesky_solve(right: Tensor, factor: Tensor, upper: bool = False) -> Tensor:
    """Return X with A X = right, where A is given by its factor."""
    rank = max(right.dim(), factor.dim())
    batch = torch.broadcast_shapes(right.shape[:-2], factor.shape[:-2])
    right, factor = right.expand(*batch, *right.shape[-2:]), factor.expand(*batch, *factor.shape[-2:])
    assert right.dim() == factor.dim() == rank
    lower, above = (factor.mH, factor) if upper else (factor, factor.mH)
    half = torch.linalg.solve_triangular(lower, right, upper=False)
    return torch.linalg.solve_triangular(above, half, upper=True)


def cholesky_inverse(factor: Tensor, upper: bool = False) -> Tensor:
    """Return the inverse of a matrix that is given by its factor."""
    size = factor.shape[-1]
    identity = torch.eye(size, dtype=factor.dtype, device=factor.device)
    return cholesky_solve(identity.expand(*factor.shape[:-2], size, size), factor, upper)


def triangular_solve(right: Tensor, matrix: Tensor, upper: bool = True, transpose: bool = False,
                     unitriangular: bool = False) -> tuple[Tensor, Tensor]:
    """Return X with A X = right, and a copy of A."""
    batch = torch.broadcast_shapes(right.shape[:-2], matrix.shape[:-2])
    right, matrix = right.expand(*batch, *right.shape[-2:]), matrix.expand(*batch, *matrix.shape[-2:])
    turned = matrix.mT if transpose else matrix
    return torch.linalg.solve_triangular(turned, right, upper=upper != transpose, unitriangular=unitriangular), matrix.clone()
