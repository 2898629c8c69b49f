"""The exponential of square matrices, by scaling and squaring."""

from __future__ import annotations

import math
from typing import TypeAlias

import torch

from lowering.ops import iteration

Tensor: TypeAlias = torch.Tensor

_WIDTH = 4  # powers of the matrix that a block of the polynomial combines
_DEGREE = _WIDTH * _WIDTH


def matrix_exp(matrix: Tensor) -> Tensor:
    """Compute aten::linalg_matrix_exp of (..., n, n): exp(A) = exp(A / 2^s)^(2^s), where s of each matrix follows from its norm.

    A / 2^s is so small that a Taylor polynomial is exact to the rounding of the dtype. As in eager, a number is not squared: n = 1.
    """
    columns = matrix.abs().sum(-2)
    norm = torch.cat([columns, columns.new_zeros([*columns.shape[:-1], 1])], -1).amax(-1)  # one more column, as n may be 0
    bound = _largest_norm(matrix.dtype)
    times = torch.where((norm > bound) & torch.isfinite(norm), torch.ceil(torch.log2(norm / bound)), 0)
    times = times.reshape([*times.shape, 1, 1])

    def goes_on(number: Tensor, power: Tensor, times: Tensor) -> Tensor:
        return (number < times).any()

    def step(number: Tensor, power: Tensor, times: Tensor) -> tuple[Tensor, Tensor]:
        return number + 1, torch.where(number < times, power @ power, power)

    state = torch.zeros((), dtype=times.dtype), _sum_series(matrix * torch.exp2(-times))
    is_number = torch.scalar_tensor(matrix.shape[-1], dtype=torch.int64) == 1
    return torch.where(is_number, torch.exp(matrix), iteration.iterate(goes_on, step, state, (times,))[1])


def _largest_norm(dtype: torch.dtype) -> float:
    """Return the norm up to which the first term that the polynomial lacks is below the rounding of `dtype`, relative to the matrix."""
    return float((torch.finfo(dtype).eps / 2 * math.factorial(_DEGREE + 1)) ** (1 / _DEGREE))


def _sum_series(matrix: Tensor) -> Tensor:
    """Return the sum of A^k / k! up to the degree, in blocks of consecutive powers (Paterson and Stockmeyer): 6 products instead of 15."""
    powers = [torch.eye(matrix.shape[-1], dtype=matrix.dtype).expand(matrix.shape), matrix]
    while len(powers) <= _WIDTH:
        powers.append(powers[-1] @ matrix)
    total = powers[_WIDTH] / math.factorial(_DEGREE)
    for start in range(_DEGREE - _WIDTH, -1, -_WIDTH):
        total = total + sum(power / math.factorial(start + index) for index, power in enumerate(powers[:_WIDTH]))
        total = total @ powers[_WIDTH] if start else total
    return total
