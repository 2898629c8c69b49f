"""Triangular factors and determinants by elimination with partial pivoting, as LAPACK's getrf does it: one column an iteration."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch

from lowering.ops import iteration

Tensor: TypeAlias = torch.Tensor


def factor(matrix: Tensor, pivots: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """Return (LU, permutation, pivots) of a matrix (..., m, n): L below the diagonal of LU, U on it and above.

    permutation: (..., m), the row of the matrix that became each row of LU. pivots: (..., min(m, n)), LAPACK's, counted from 1.
    """
    rows, columns = matrix.shape[-2:]
    least = iteration.least(rows, columns)
    order = torch.arange(rows).expand(matrix.shape[:-1])
    swaps = torch.arange(least).expand(*matrix.shape[:-2], least)

    def step(number: Tensor, lu: Tensor, order: Tensor, swaps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        down, across = torch.arange(lu.shape[-2]), torch.arange(lu.shape[-1])
        if pivots:
            sizes = torch.where(down >= number, iteration.take(lu, -1, number).squeeze(-1).abs(), -1.0)
            chosen = sizes.argmax(-1, keepdim=True)  # (..., 1)
            source = torch.where(down == number, chosen, torch.where(down == chosen, number, down))
            lu = lu.gather(-2, source.unsqueeze(-1).expand(lu.shape))
            order = order.gather(-1, source)
            swaps = torch.where(torch.arange(swaps.shape[-1]) == number, chosen, swaps)
        row, column = iteration.take(lu, -2, number), iteration.take(lu, -1, number)
        pivot = iteration.take(row, -1, number)
        below = (down > number).unsqueeze(-1)
        factors = torch.where(below, column / torch.where(pivot == 0, 1, pivot), 0)
        lu = torch.where(across > number, lu - factors * row, torch.where(below & (across == number), factors, lu))
        return lu, order, swaps

    lu, order, swaps = iteration.count(least, step, (matrix, order, swaps))
    return lu, order, (swaps + 1).to(torch.int32)


def lu_factor_ex(matrix: Tensor, *, pivot: bool = True, check_errors: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Compute aten::linalg_lu_factor_ex."""
    lu, _, pivots = factor(matrix, pivot)
    return lu, pivots, find_zero(lu)


def find_zero(lu: Tensor) -> Tensor:
    """Return LAPACK's info: the first diagonal element that is 0, counted from 1, or 0 if there is none."""
    diagonal = lu.diagonal(dim1=-2, dim2=-1)
    places = torch.arange(1, diagonal.shape[-1] + 1)
    none = diagonal.shape[-1] + 1
    beyond = torch.full([*diagonal.shape[:-1], 1], none, dtype=torch.int64)  # so that there is one to choose where a dim is 0
    first = torch.cat([torch.where(diagonal == 0, places, none), beyond], -1).amin(-1)
    return torch.where(first == none, 0, first).to(torch.int32)


def find_indefinite(matrix: Tensor) -> Tensor:
    """Return the info of a Cholesky factorization: the order of the first leading minor that is not positive definite, 0 if all are.

    Only the lower triangle is read.
    """
    lower = matrix.tril(-1)
    square = lower + lower.mT + torch.diag_embed(matrix.diagonal(dim1=-2, dim2=-1))

    def step(number: Tensor, rest: Tensor, info: Tensor) -> tuple[Tensor, Tensor]:
        column = iteration.take(rest, -1, number)
        pivot = iteration.take(column, -2, number)
        fails = ~(pivot > 0).squeeze(-1).squeeze(-1)
        rest = rest - column * column.mT / torch.where(pivot == 0, 1, pivot)
        return rest, torch.where(fails & (info == 0), number + 1, info)

    info = torch.zeros(matrix.shape[:-2], dtype=torch.int64)
    return iteration.count(matrix.shape[-1], step, (square, info))[1].to(torch.int32)


def lu(matrix: Tensor, *, pivot: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """Return (P, L, U) with matrix = P L U."""
    factors, order, _ = factor(matrix, pivot)
    permutation = permute(order, matrix.dtype) if pivot else matrix.new_empty([0])
    return permutation, *split(factors)


def split(factors: Tensor) -> tuple[Tensor, Tensor]:
    """Return L (..., m, k) with a unit diagonal, and U (..., k, n), of factors (..., m, n)."""
    least = iteration.least(factors.shape[-2], factors.shape[-1])
    lower = factors.narrow(-1, 0, least).tril(-1)
    return lower + torch.eye(factors.shape[-2], dtype=factors.dtype).narrow(-1, 0, least), factors.narrow(-2, 0, least).triu()


def permute(order: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the matrix that undoes the exchange of rows: column i has its 1 in row order[i]."""
    return (order.unsqueeze(-2) == torch.arange(order.shape[-1]).unsqueeze(-1)).to(dtype)


def unpack(factors: Tensor, pivots: Tensor, unpack_data: bool = True, unpack_pivots: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """Compute aten::lu_unpack."""
    if unpack_pivots:
        torch._check(pivots.shape[-1] == iteration.least(factors.shape[-2], factors.shape[-1]))  # eager writes past the end where it is not
    empty = factors.new_empty([0])
    permutation = permute(compute_order(pivots, factors.shape[-2]), factors.dtype) if unpack_pivots else empty
    return permutation, *(split(factors) if unpack_data else (empty, empty))


def compute_order(pivots: Tensor, rows: Any) -> Tensor:
    """Return the permutation that the exchanges of LAPACK's pivots make, one after the other."""
    order = torch.arange(rows).expand(*pivots.shape[:-1], rows)

    def step(number: Tensor, order: Tensor, pivots: Tensor) -> tuple[Tensor]:
        chosen, down = iteration.take(pivots, -1, number), torch.arange(order.shape[-1])
        source = torch.where(down == number, chosen, torch.where(down == chosen, number, down))
        return (order.gather(-1, source),)

    return iteration.count(pivots.shape[-1], step, (order,), (pivots.long() - 1,))[0]


def solve_factored(factors: Tensor, order: Tensor, right: Tensor) -> Tensor:
    """Return X with A X = right (..., n, k), where A is given by its factors."""
    batch = torch.broadcast_shapes(factors.shape[:-2], right.shape[:-2])
    factors, right = factors.expand(*batch, *factors.shape[-2:]), right.expand(*batch, *right.shape[-2:])
    moved = right.gather(-2, order.unsqueeze(-1).expand(right.shape))
    half = torch.linalg.solve_triangular(factors, moved, upper=False, unitriangular=True)
    return torch.linalg.solve_triangular(factors, half, upper=True)


def lu_solve(factors: Tensor, pivots: Tensor, right: Tensor, *, left: bool = True, adjoint: bool = False) -> Tensor:
    """Compute aten::linalg_lu_solve."""
    if not left:
        return lu_solve(factors, pivots, right.mH, adjoint=not adjoint).mH
    order = compute_order(pivots, factors.shape[-2])
    if not adjoint:
        return solve_factored(factors, order, right)
    batch = torch.broadcast_shapes(factors.shape[:-2], right.shape[:-2])
    turned, right = factors.mH.expand(*batch, *factors.shape[-2:]), right.expand(*batch, *right.shape[-2:])
    half = torch.linalg.solve_triangular(turned, right, upper=False)
    whole = torch.linalg.solve_triangular(turned, half, upper=True, unitriangular=True)
    places = torch.arange(order.shape[-1])
    back = torch.where(order.unsqueeze(-2) == places.unsqueeze(-1), places, 0).sum(-1)  # the inverse permutation
    return whole.gather(-2, back.expand(*batch, back.shape[-1]).unsqueeze(-1).expand(whole.shape))


def lu_solve_legacy(right: Tensor, factors: Tensor, pivots: Tensor) -> Tensor:
    """Compute aten::lu_solve."""
    return lu_solve(factors, pivots, right)


def determinant(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute aten::_linalg_det: the determinant, the factors and the pivots."""
    factors, _, pivots = _factor_as_eager(matrix)
    return factors.diagonal(dim1=-2, dim2=-1).prod(-1) * _parity(pivots).to(matrix.dtype), factors, pivots


def sign_and_logarithm(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute aten::_linalg_slogdet: the sign of the determinant, the logarithm of its size, and as `determinant`."""
    factors, _, pivots = _factor_as_eager(matrix)
    diagonal = factors.diagonal(dim1=-2, dim2=-1)
    return torch.sgn(diagonal).prod(-1) * _parity(pivots).to(matrix.dtype), diagonal.abs().log().sum(-1), factors, pivots


def _factor_as_eager(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Factor a matrix, or its transpose where eager does: the gradient solves by these factors."""
    return factor(matrix.mT if matrix.is_contiguous() and not matrix.is_complex() else matrix)


def _parity(pivots: Tensor) -> Tensor:
    """Return -1 for an odd number of exchanges, else 1."""
    moved = (pivots != torch.arange(1, pivots.shape[-1] + 1)).sum(-1)
    return 1 - 2 * (moved % 2)
