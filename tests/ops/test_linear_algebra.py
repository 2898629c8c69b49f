"""Factors, solutions and determinants of matrices of any size, which no level below has an op for, and of singular ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tests.ops.forms import differences

RANDOM = torch.Generator().manual_seed(0)


def matrices(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=RANDOM)


SQUARE: dict[str, Callable[..., Any]] = {
    "lu_solve, adjoint": lambda a: torch.linalg.lu_solve(*torch.linalg.lu_factor_ex(a)[:2], a.flip(-1), adjoint=True),
    "lu_solve of the right": lambda a: torch.linalg.lu_solve(*torch.linalg.lu_factor_ex(a)[:2], a.flip(-1), left=False),
}  # fmt: skip
ANY: dict[str, Callable[..., Any]] = {
    "lu": torch.linalg.lu, "qr": torch.linalg.qr,
    "lu_unpack": lambda a: torch.lu_unpack(*torch.linalg.lu_factor_ex(a)[:2]),
    "q": lambda a: torch.linalg.householder_product(a, a[..., 0, :].abs() * 0 + 1),
    "ormqr": lambda a: torch.ormqr(a, a[..., 0, :] * 0 + 1, a.mT, left=False, transpose=True),
}  # fmt: skip


def test_square_matrices() -> None:
    points = [(matrices(2, 5, 5),), (matrices(2, 1, 1),)]
    assert differences(SQUARE, (("b", "n", "n"),), points, least=1) == []


def test_tall_matrices() -> None:
    assert differences(ANY, (("b", "m", 3),), [(matrices(5, 6, 3),), (matrices(4, 4, 3),)], least=4) == []


def test_what_has_no_inverse() -> None:
    forms = {"det": torch.linalg.det, "slogdet": torch.linalg.slogdet, "info": lambda a: torch.linalg.lu_factor_ex(a)[2]}
    singular = torch.tensor([[[1.0, 2], [2, 4]], [[0, 0], [0, 0]], [[0, 1], [1, 0]]])
    assert differences(forms, (("b", "n", "n"),), [(matrices(2, 3, 3),), (singular,)], least=1) == []


HALVES = torch.tensor([0.0, -0.0, 1.0, -1.0, 0.5, 0.75, 65504.0, -6.1035e-05, 3.0, 1000.0, float("inf"), float("-inf"), float("nan")])


def test_binary_parts() -> None:
    floats = torch.cat([HALVES, torch.tensor([3.4e38, -1.2e-38, 1e-30, 1e30])])
    forms = {"frexp": torch.frexp, "halves": lambda x: torch.frexp(x.half())}
    assert differences(forms, (("n",),), [(floats,), (floats[2:3],), (floats[:0],)]) == []
