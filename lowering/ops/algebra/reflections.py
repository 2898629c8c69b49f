"""Orthogonal factors by Householder reflections, as LAPACK's geqrf, orgqr and ormqr compute them: one column an iteration."""

from __future__ import annotations

from typing import Any, TypeAlias

import torch

from lowering.ops import iteration

Tensor: TypeAlias = torch.Tensor


def geqrf(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Return R on and above the diagonal with the reflectors' vectors below it, and the reflectors' factors (..., min(m, n))."""
    least = iteration.least(matrix.shape[-2], matrix.shape[-1])
    factors = matrix.new_zeros([*matrix.shape[:-2], least])

    def step(number: Tensor, packed: Tensor, factors: Tensor) -> tuple[Tensor, Tensor]:
        down, across = torch.arange(packed.shape[-2]), torch.arange(packed.shape[-1])
        column = iteration.take(packed, -1, number).squeeze(-1)
        head = torch.where(down == number, column, 0).sum(-1, keepdim=True)
        tail = torch.where(down > number, column, 0)
        rest = torch.linalg.vector_norm(tail, 2, -1, keepdim=True)
        size = torch.hypot(head, rest)
        beta = torch.where(head >= 0, -size, size)
        is_done = rest == 0  # the column is zero below the diagonal already
        factor = torch.where(is_done, 0, (beta - head) / torch.where(is_done, 1, beta))
        vector = torch.where(down == number, 1, tail / torch.where(is_done, 1, head - beta))
        product = (vector.unsqueeze(-1) * packed).sum(-2, keepdim=True)
        turned = packed - (factor * vector).unsqueeze(-1) * product
        inside = across > number
        own = torch.where(down == number, torch.where(is_done, head, beta), torch.where(down > number, vector, column))
        packed = torch.where(inside, turned, torch.where(across == number, own.unsqueeze(-1), packed))
        return packed, torch.where(torch.arange(factors.shape[-1]) == number, factor, factors)

    return iteration.count(least, step, (matrix, factors))  # type: ignore[return-value]


def apply(packed: Tensor, factors: Tensor, onto: Tensor, transposes: bool) -> Tensor:
    """Return Q X for X (..., m, n), or Q^T X, where Q is the product of the reflectors in `packed` (..., m, k)."""

    def step(number: Tensor, onto: Tensor, packed: Tensor, factors: Tensor) -> tuple[Tensor]:
        count = factors.shape[-1]
        place = number if transposes else count - 1 - number
        column, factor = iteration.take(packed, -1, place), iteration.take(factors, -1, place).unsqueeze(-1)
        down = torch.arange(packed.shape[-2]).unsqueeze(-1)
        vector = torch.where(down == place, 1, torch.where(down > place, column, 0))
        return (onto - factor * vector * (vector * onto).sum(-2, keepdim=True),)

    return iteration.count(factors.shape[-1], step, (onto,), (packed, factors))[0]


def _identity(rows: Any, columns: Any, like: Tensor) -> Tensor:
    square = torch.arange(rows).unsqueeze(-1) == torch.arange(columns)
    return square.to(like.dtype).expand(*like.shape[:-2], rows, columns)


def householder_product(packed: Tensor, factors: Tensor) -> Tensor:
    """Return the first columns of the product of reflectors, as many as `packed` has."""
    return apply(packed, factors, _identity(packed.shape[-2], packed.shape[-1], packed), False)


def ormqr(packed: Tensor, factors: Tensor, onto: Tensor, left: bool = True, transpose: bool = False) -> Tensor:
    """Compute aten::ormqr: Q X, Q^T X, X Q or X Q^T."""
    return apply(packed, factors, onto, transpose) if left else apply(packed, factors, onto.mT, not transpose).mT


def qr(matrix: Tensor, mode: str = "reduced") -> tuple[Tensor, Tensor]:
    """Compute aten::linalg_qr."""
    rows, columns = matrix.shape[-2:]
    packed, factors = geqrf(matrix)
    least = iteration.least(rows, columns)
    height = rows if mode == "complete" else least
    upper = packed.narrow(-2, 0, height).triu()
    if mode == "r":
        return matrix.new_empty([0]), upper
    return apply(packed, factors, _identity(rows, height, matrix), False), upper
