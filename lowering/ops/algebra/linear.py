"""Linear algebra by a lower Cholesky factor and triangular systems, and by elimination."""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import torch
from torch._higher_order_ops.while_loop import while_loop_op
from torch.fx import Node

from lowering.ops.algebra import elimination

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


def cholesky_ex(matrix: Tensor, *, upper: bool = False, check_errors: bool = False) -> tuple[Tensor, Tensor]:
    """Compute aten::linalg_cholesky_ex. The factor of a matrix that is not positive definite is NaN, where eager's is unfinished."""
    factor = upper_cholesky(matrix)[0] if upper else torch.ops.aten.linalg_cholesky_ex.default(matrix)[0]
    return factor, elimination.find_indefinite(matrix.mH if upper else matrix)


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
    turned = matrix.mT if transpose else matrix
    found = solve_triangular(turned, right, upper=upper != transpose, unitriangular=unitriangular)
    return found, matrix.expand(*found.shape[:-2], *matrix.shape[-2:]).clone()


def cross(left: Tensor, right: Tensor, *, dim: int = -1) -> Tensor:
    """Compute aten::linalg_cross."""
    (a, b, c), (d, e, f) = left.unbind(dim), right.unbind(dim)
    return torch.stack([b * f - c * e, c * d - a * f, a * e - b * d], dim)


def has_unlike_batches(node: Node) -> bool:
    """Return whether the batch dims of two matrices have to be broadcast."""
    first, second = ([str(size) for size in matrix.meta["val"].shape[:-2]] for matrix in node.args[:2])  # type: ignore[union-attr]
    return first != second


def solve_triangular(matrix: Tensor, right: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False) -> Tensor:
    """Compute aten::linalg_solve_triangular with batch dims that are broadcast."""
    batch = torch.broadcast_shapes(right.shape[:-2], matrix.shape[:-2])
    right, matrix = right.expand(*batch, *right.shape[-2:]), matrix.expand(*batch, *matrix.shape[-2:])
    return torch.linalg.solve_triangular(matrix, right, upper=upper, left=left, unitriangular=unitriangular)


def solve(matrix: Tensor, right: Tensor, *, left: bool = True, check_errors: bool = False) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute aten::_linalg_solve_ex: the solution, and the factors, pivots and error code of the matrix, which gradients read."""
    is_vector = takes_vector(matrix, right)
    columns = right.unsqueeze(-1) if is_vector else right
    solution = _eliminate(matrix, columns) if left or is_vector else _eliminate(matrix.mT, columns.mT).mT
    factors, _, pivots = elimination.factor(matrix)
    return solution.squeeze(-1) if is_vector else solution, factors, pivots, elimination.find_zero(factors)


def takes_vector(matrix: Tensor, right: Tensor) -> bool:
    """Return whether the right-hand side of a system is a vector for each matrix."""
    return right.dim() == matrix.dim() - 1 and (right.dim() == 1 or right.shape == matrix.shape[:-1])


def inverse(matrix: Tensor, *, check_errors: bool = False) -> tuple[Tensor, Tensor]:
    """Compute aten::linalg_inv_ex: the inverse, and the error code."""
    places = torch.arange(matrix.shape[-1], device=matrix.device)
    identity = (places.unsqueeze(-1) == places).to(matrix.dtype)
    return _eliminate(matrix, identity.expand(matrix.shape)), elimination.find_zero(elimination.factor(matrix)[0])


def _eliminate(matrix: Tensor, right: Tensor) -> Tensor:
    """Solve (..., n, n) @ x = (..., n, k) by Gauss-Jordan elimination with partial pivoting, as a loop over the columns."""
    size = matrix.shape[-1]
    batch = torch.broadcast_shapes(matrix.shape[:-2], right.shape[:-2])
    system = torch.cat([matrix.expand(*batch, *matrix.shape[-2:]), right.expand(*batch, *right.shape[-2:])], -1)
    system = system.reshape(math.prod(batch), *system.shape[-2:])

    def goes_on(step: Any, system: Tensor) -> Any:
        return step < system.shape[1]

    def body(step: Any, system: Tensor) -> tuple[Any, Tensor]:
        here = torch.scalar_tensor(step, dtype=torch.int64).reshape([1])
        rows = torch.arange(system.shape[1], device=system.device)
        column = system.index_select(2, here).squeeze(2)
        pivot = torch.where(rows >= here, column.abs(), -1.0).argmax(1, keepdim=True)
        top = system.index_select(1, here)
        chosen = system.gather(1, pivot.unsqueeze(-1).expand(-1, 1, system.shape[2]))
        is_here, is_pivot = (rows == here).unsqueeze(-1), (rows == pivot).unsqueeze(-1)
        swapped = torch.where(is_here, chosen, torch.where(is_pivot, top, system))
        scaled = chosen / chosen.index_select(2, here)
        rest = swapped - swapped.index_select(2, here) * scaled
        return step + 1, torch.where(is_here, scaled, rest)

    with torch._C._AutoDispatchBelowAutograd():
        solved = while_loop_op(goes_on, body, (0, system), ())[1]
    found = solved.narrow(2, size, right.shape[-1]).reshape(*batch, size, right.shape[-1])
    is_nan = (matrix.abs() if matrix.is_complex() else matrix).isnan()
    return torch.where(is_nan.any(-1, keepdim=True).any(-2, keepdim=True), math.nan, found)
