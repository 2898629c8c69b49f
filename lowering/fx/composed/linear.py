"""Linear algebra whose results have sizes that data decide, composed of factorizations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NoReturn

import torch

from lowering.ops.algebra import linear

_NAMES = ("solution", "residuals", "rank", "singular_values")


@dataclass(frozen=True)
class LeastSquares:
    """The results of `torch.linalg.lstsq`, by name or in order. Those that the driver does not compute are empty."""

    solution: torch.Tensor
    rank: torch.Tensor
    singular_values: torch.Tensor

    @property
    def residuals(self) -> NoReturn:
        """Refuse: eager gives residuals only of matrices of full rank."""
        raise NotImplementedError("torch.linalg.lstsq: the size of its residuals depends on data; write (A @ X - B).square().sum(-2)")

    def __getitem__(self, position: int | slice) -> Any:
        names = _NAMES[position]
        return getattr(self, names) if isinstance(names, str) else tuple(getattr(self, name) for name in names)

    def __iter__(self) -> Iterator[torch.Tensor]:
        return map(self.__getitem__, range(len(_NAMES)))


def solve_least_squares(matrix: torch.Tensor, right: torch.Tensor, rcond: float | None = None, *,
                        driver: str | None = None) -> LeastSquares:
    """Return torch.linalg.lstsq: the shortest of the best solutions, by singular values, those up to rcond * the largest taken for 0.

    rcond is by default the precision of the dtype times the larger size. The driver gels takes the matrix to have full rank. The solution
    is that of the pseudoinverse, whose gradient is finite where singular values are equal.
    """
    is_vector = linear.takes_vector(matrix, right)
    values = torch.linalg.svdvals(matrix)
    share: Any = torch.finfo(values.dtype).eps * torch.sym_max(matrix.shape[-2], matrix.shape[-1]) if rcond is None else rcond
    is_used = values > (0 if driver == "gels" else share * values.amax(-1, keepdim=True))
    inverse = torch.linalg.pinv(matrix, rtol=0.0 if driver == "gels" else rcond)
    solution = inverse @ (right.unsqueeze(-1) if is_vector else right)
    rank = values.new_empty([0], dtype=torch.int64) if driver == "gels" else is_used.sum(-1)
    given = values if driver in ("gelsd", "gelss") else values.new_empty([0])
    return LeastSquares(solution.squeeze(-1) if is_vector else solution, rank, given)
