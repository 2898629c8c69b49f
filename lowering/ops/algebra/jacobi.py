"""Eigenvalues of symmetric matrices and singular values, by Jacobi's rotations of pairs of rows and columns.

Every iteration rotates all pairs of one round of a tournament, in which each row meets each other one once: a sweep. The loop ends after a
sweep that found nothing to rotate.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
from torch.fx.experimental.symbolic_shapes import statically_known_true

from lowering.ops import iteration
from lowering.ops.algebra import reflections

Tensor: TypeAlias = torch.Tensor

_SWEEPS = 20  # ten are enough for thousands of rows


def eigh(matrix: Tensor, uplo: str = "L", compute_v: bool = True) -> tuple[Tensor, Tensor]:
    """Compute aten::_linalg_eigh: the eigenvalues, the smallest first, and the eigenvectors (..., n, n), whose signs are open."""
    half = matrix.tril(-1) if uplo.upper() == "L" else matrix.triu(1)
    square = half + half.mT + torch.diag_embed(matrix.diagonal(dim1=-2, dim2=-1))
    bound = torch.finfo(matrix.dtype).eps * square.abs().sum(-1, keepdim=True).sum(-2, keepdim=True).squeeze(-1).squeeze(-1)

    def step(number: Tensor, _: Tensor, turned: Tensor, square: Tensor, vectors: Tensor, bound: Tensor) -> tuple[Tensor, ...]:
        partner, round_, last = _pair(number, square.shape[-1])
        diagonal = square.diagonal(dim1=-2, dim2=-1)
        between = torch.where(_is_at(partner), square, 0).sum(-1)
        between = between.index_select(-1, torch.minimum(partner, torch.arange(partner.shape[0])))  # one for both: rounding makes two
        turns = _has_partner(partner) & (between.abs() > bound.unsqueeze(-1) / square.shape[-1])
        cosine, sine = _rotate(diagonal, diagonal.index_select(-1, partner), between, turns, partner)
        square = cosine.unsqueeze(-1) * square - sine.unsqueeze(-1) * square.index_select(-2, partner)
        square = cosine.unsqueeze(-2) * square - sine.unsqueeze(-2) * square.index_select(-1, partner)
        vectors = cosine.unsqueeze(-2) * vectors - sine.unsqueeze(-2) * vectors.index_select(-1, partner)
        turned = torch.where(round_ == 0, False, turned) | turns.any()
        return number + 1, _goes_on(number, round_, last, turned), turned, square, vectors

    state = _first_state(square, _identity(square))
    values, vectors = _finish(iteration.iterate(_continues, step, state, (bound,)))
    values, order = values.diagonal(dim1=-2, dim2=-1).sort(-1)
    return values, vectors.gather(-1, order.unsqueeze(-2).expand(vectors.shape)) if compute_v else matrix.new_empty([0])


def svd(matrix: Tensor, full_matrices: bool = False, compute_uv: bool = True, *, driver: Any = None) -> tuple[Tensor, Tensor, Tensor]:
    """Compute aten::_linalg_svd: U, the singular values, the largest first, and V^H. The signs of the vectors are open.

    The columns are rotated until they are orthogonal (Hestenes): their lengths are the singular values, even small ones to full precision.
    """
    rows, columns = matrix.shape[-2:]
    if statically_known_true(rows < columns):
        right, values, left = svd(matrix.mT, full_matrices, compute_uv)
        return (left.mT, values, right.mT) if compute_uv else (right, values, left)
    largest = torch.linalg.vector_norm(matrix, torch.inf, (-2, -1), keepdim=True)
    scale = torch.where((largest > 0) & torch.isfinite(largest), largest, 1)  # squares do not overflow then
    turned, vectors = _orthogonalize(matrix / scale)
    lengths, order = torch.linalg.vector_norm(turned, 2, -2).sort(-1, descending=True)
    least = iteration.least(rows, columns)
    values = lengths.narrow(-1, 0, least) * scale.squeeze(-1)
    if not compute_uv:
        return matrix.new_empty([0]), values, matrix.new_empty([0])
    turned, vectors = (each.gather(-1, order.unsqueeze(-2).expand(each.shape)) for each in (turned, vectors))
    left, upper = reflections.qr(turned, "complete" if full_matrices else "reduced")  # completes the columns of length 0
    diagonal = upper.diagonal(dim1=-2, dim2=-1).narrow(-1, 0, least)
    signs = torch.where(diagonal < 0, -1, 1).to(matrix.dtype)
    if full_matrices:
        signs = torch.cat([signs, signs.new_ones([*signs.shape[:-1], rows - least])], -1)
    return left * signs.unsqueeze(-2), values, vectors.mT if full_matrices else vectors.narrow(-1, 0, least).mT


def pseudoinverse(matrix: Tensor, *, atol: Any = None, rtol: Any = None, hermitian: bool = False) -> Tensor:
    """Compute aten::linalg_pinv: singular values of max(atol, rtol * the largest one) and less count as 0.

    rtol is by default the precision of the dtype times the larger size, or 0 if there is an atol.
    """
    precision = torch.finfo(matrix.dtype).eps * torch.sym_max(matrix.shape[-2], matrix.shape[-1])
    if hermitian:
        signed, left = eigh(matrix)
        right, values = left, signed.abs()
    else:
        left, signed, adjoint = svd(matrix)
        right, values = adjoint.mT, signed
    least = _as_tensor(0 if atol is None else atol, matrix)
    share = _as_tensor(precision, matrix) if rtol is None else _as_tensor(rtol, matrix)
    if rtol is None and atol is not None:
        share = torch.where(least > 0, 0, share)
    bound = torch.maximum(least.unsqueeze(-1), share.unsqueeze(-1) * values.amax(-1, keepdim=True))
    inverse = torch.where(values > bound, 1 / torch.where(values > bound, signed, 1), 0)
    return (right * inverse.unsqueeze(-2)) @ left.mT


def _as_tensor(number: Any, like: Tensor) -> Tensor:
    return number.to(like.dtype) if isinstance(number, torch.Tensor) else torch.scalar_tensor(number, dtype=like.dtype)


def _orthogonalize(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return (A V, V) with orthogonal columns of A V, where V is orthogonal."""

    def step(number: Tensor, _: Tensor, turned: Tensor, columns: Tensor, vectors: Tensor) -> tuple[Tensor, ...]:
        partner, round_, last = _pair(number, columns.shape[-1])
        other = columns.index_select(-1, partner)
        squares, between = (columns * columns).sum(-2), (columns * other).sum(-2)
        others = squares.index_select(-1, partner)
        bound = 4 * torch.finfo(columns.dtype).eps * torch.sqrt(squares) * torch.sqrt(others)
        turns = _has_partner(partner) & (between.abs() > bound)
        cosine, sine = _rotate(squares, others, between, turns, partner)
        columns = cosine.unsqueeze(-2) * columns - sine.unsqueeze(-2) * other
        vectors = cosine.unsqueeze(-2) * vectors - sine.unsqueeze(-2) * vectors.index_select(-1, partner)
        turned = torch.where(round_ == 0, False, turned) | turns.any()
        return number + 1, _goes_on(number, round_, last, turned), turned, columns, vectors

    identity = _identity(matrix)
    return _finish(iteration.iterate(_continues, step, _first_state(matrix, identity)))


def _first_state(*tensors: Tensor) -> tuple[Tensor, ...]:
    return torch.zeros((), dtype=torch.int64), torch.ones((), dtype=torch.bool), torch.zeros((), dtype=torch.bool), *tensors


def _continues(number: Tensor, goes_on: Tensor, *rest: Tensor) -> Tensor:
    return goes_on


def _finish(state: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    return state[3], state[4]


def _goes_on(number: Tensor, round_: Tensor, last: Any, turned: Tensor) -> Tensor:
    """Return whether another round follows: none after the last sweep, or after one that turned nothing."""
    return (number + 1 < _SWEEPS * last) & ((round_ + 1 < last) | turned)


def _has_partner(partner: Tensor) -> Tensor:
    return partner != torch.arange(partner.shape[0])


def _pair(number: Tensor, size: Any) -> tuple[Tensor, Tensor, Any]:
    """Return the partner of each index in a round, itself if it has none, with the round and the number of rounds.

    In round r of m players, where m is even, i meets r - i modulo m - 1. The last player meets the one that would meet itself.
    """
    players = size + size % 2
    last = players - 1
    round_ = torch.remainder(number, last)
    places = torch.arange(size)
    other = torch.remainder(round_ - places, last)
    alone = torch.remainder(round_ * (players // 2), last)
    partner = torch.where(places == last, alone, torch.where(other == places, last, other))
    return torch.where(partner < size, partner, places), round_, last


def _is_at(partner: Tensor) -> Tensor:
    return partner.unsqueeze(-1) == torch.arange(partner.shape[0])


def _rotate(own: Tensor, other: Tensor, between: Tensor, turns: Tensor, partner: Tensor) -> tuple[Tensor, Tensor]:
    """Return cosine and sine, for each index, of the rotation with its partner that makes the element between them 0.

    turns: where there is anything to rotate.
    """
    angle = (other - own) / torch.where(turns, 2 * between, 1)
    sign = torch.where(angle == 0, torch.where(partner > torch.arange(partner.shape[0]), 1, -1).to(own.dtype), torch.sign(angle))
    tangent = torch.where(turns, sign / (angle.abs() + torch.hypot(angle, torch.ones_like(angle))), 0)
    cosine = 1 / torch.sqrt(1 + tangent * tangent)
    return cosine, tangent * cosine


def _identity(like: Tensor) -> Tensor:
    size = like.shape[-1]
    return torch.eye(size, dtype=like.dtype).expand(*like.shape[:-2], size, size)
