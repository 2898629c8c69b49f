"""Factors, solutions and determinants of matrices of any size, which no level below has an op for, and of singular ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from lowering.fx.composed.linear import solve_least_squares
from tests.ops.forms import differences

RANDOM = torch.Generator().manual_seed(0)


def matrices(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=RANDOM)


SQUARE: dict[str, Callable[..., Any]] = {
    "lu_solve, adjoint": lambda a: torch.linalg.lu_solve(*torch.linalg.lu_factor_ex(a)[:2], a.flip(-1), adjoint=True),
    "lu_solve of the right": lambda a: torch.linalg.lu_solve(*torch.linalg.lu_factor_ex(a)[:2], a.flip(-1), left=False),
    "one triangle for all": lambda a: torch.linalg.solve_triangular(a[0] + 9 * torch.eye(a.shape[-1]), a, upper=False, left=False),
    "cond": lambda a: torch.linalg.cond(a + 9 * torch.eye(a.shape[-1]), 1), "largest column": lambda a: torch.linalg.matrix_norm(a, 1),
    "smallest row": lambda a: torch.linalg.norm(a, -torch.inf, (2, 0), keepdim=True),
}  # fmt: skip
ANY: dict[str, Callable[..., Any]] = {
    "lu": torch.linalg.lu, "qr": torch.linalg.qr,
    "lu_unpack": lambda a: torch.lu_unpack(*torch.linalg.lu_factor_ex(a)[:2]),
    "q": lambda a: torch.linalg.householder_product(a, a[..., 0, :].abs() * 0 + 1),
    "lstsq": lambda a: torch.linalg.lstsq(a, a[..., :1] + 1)[0],
    "lstsq of vectors": lambda a: torch.linalg.lstsq(a, a.sum(-1) + 1).solution,
    "lstsq of lower rank": lambda a: torch.linalg.lstsq(torch.cat([a, a[..., :1]], -1), a + 1, 1e-4, driver="gelsd").solution,
    "ormqr": lambda a: torch.ormqr(a, a[..., 0, :] * 0 + 1, a.mT, left=False, transpose=True),
}  # fmt: skip


@pytest.mark.parametrize("driver", [None, "gelsy", "gelsd", "gelss", "gels"])
def test_least_squares(driver: str | None) -> None:
    tall = matrices(2, 6, 4)
    lower = (torch.cat([tall, tall[..., :1]], -1),) if driver in ("gelsd", "gelss") else ()  # eager's gelsy may find a rank too low
    for matrix in (tall, tall[0], tall[:, :3], *lower):
        ours, eagers = (solve(matrix, matrix[..., :1] + 1, 1e-4, driver=driver) for solve in (solve_least_squares, torch.linalg.lstsq))
        torch.testing.assert_close((ours[0], *ours[2:]), (eagers[0], *eagers[2:]), rtol=1e-3, atol=1e-4)
        with pytest.raises(NotImplementedError, match="size of its residuals depends on data"):
            _, _, _, _ = ours


def solve_in_place(a: torch.Tensor) -> torch.Tensor:
    """A program that torch traces again, below autograd, because of the write to a view."""
    right = a.clone()
    right[..., 0] += 1
    return torch.linalg.solve(a + 9 * torch.eye(a.shape[-1]), right)


def test_gradients_of_solutions() -> None:
    forms = {
        "solve": lambda a: torch.func.grad(lambda b: torch.linalg.solve(b + 9 * torch.eye(b.shape[-1]), a).square().sum())(a),
        "inv": lambda a: torch.func.grad(lambda b: torch.linalg.inv(b + 9 * torch.eye(b.shape[-1]))[..., 0].sum())(a),
        "written": solve_in_place,
    }  # fmt: skip
    assert differences(forms, (("b", "n", "n"),), [(matrices(2, 3, 3),), (matrices(3, 1, 1),)], least=1) == []


def test_square_matrices() -> None:
    points = [(matrices(2, 5, 5),), (matrices(2, 1, 1),)]
    assert differences(SQUARE, (("b", "n", "n"),), points, least=1) == []


def test_tall_matrices() -> None:
    assert differences(ANY, (("b", "m", 3),), [(matrices(5, 6, 3),), (matrices(4, 4, 3),)], least=4) == []


def test_tall_and_wide_matrices_of_one_program() -> None:
    forms = {"pinv": torch.linalg.pinv, "lstsq": lambda a: torch.linalg.lstsq(a, a[:, :1] + 1).solution}
    assert differences(forms, (("m", "n"),), [(matrices(5, 3),), (matrices(2, 4),), (matrices(3, 3),)], least=1) == []


def test_what_has_no_inverse() -> None:
    forms = {"det": torch.linalg.det, "slogdet": torch.linalg.slogdet, "info": lambda a: torch.linalg.lu_factor_ex(a)[2],
             "info of a Cholesky factor": lambda a: torch.linalg.cholesky_ex(a)[1],
             "info of an upper factor": lambda a: torch.linalg.cholesky_ex(a, upper=True).info,
             "info of an inverse": lambda a: torch.linalg.inv_ex(a)[1], "info of a solution": lambda a: torch.linalg.solve_ex(a, a)[1]}
    singular = torch.tensor([[[1.0, 2], [2, 4]], [[0, 0], [0, 0]], [[0, 1], [1, 0]]])
    assert differences(forms, (("b", "n", "n"),), [(matrices(2, 3, 3),), (singular,)], least=1) == []


def compose(factors: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> torch.Tensor:
    left, values, right = factors
    return (left[..., :, : values.shape[-1]] * values.unsqueeze(-2)) @ right[..., : values.shape[-1], :]


def products(vectors: torch.Tensor) -> torch.Tensor:
    """Return all products of rows: of an orthogonal matrix, those of the identity, to a common precision."""
    return vectors @ vectors.mT + 1


SYMMETRIC: dict[str, Callable[..., Any]] = {
    "eigvalsh": torch.linalg.eigvalsh, "eigenvectors": lambda a: products(torch.linalg.eigh(a)[1]),
    "eigh": lambda a: compose((torch.linalg.eigh(a)[1], torch.linalg.eigh(a)[0], torch.linalg.eigh(a)[1].mT)),
    "pinv": lambda a: torch.linalg.pinv(a + a.mT, hermitian=True), "atol": lambda a: torch.linalg.pinv(a, atol=0.5),
}  # fmt: skip
RECTANGULAR: dict[str, Callable[..., Any]] = {
    "svdvals": lambda a: torch.linalg.svdvals(a) + 1, "svd": lambda a: compose(torch.linalg.svd(a, full_matrices=False)),
    "left": lambda a: products(torch.linalg.svd(a)[0]), "right": lambda a: products(torch.linalg.svd(a)[2]),
    "nuclear norm": lambda a: torch.linalg.matrix_norm(a, "nuc") + 1,
}  # fmt: skip


def test_eigenvalues() -> None:
    points = [(matrices(2, 5, 5),), (matrices(3, 1, 1),), (matrices(1, 8, 8),)]
    assert differences(SYMMETRIC, (("b", "n", "n"),), points, least=1) == []


def test_singular_values() -> None:
    # The last two without full rank.
    points = [(matrices(4, 3),), (matrices(2, 5),), (matrices(1, 3),), (torch.ones(4, 3),), (torch.zeros(4, 3),)]
    assert differences(RECTANGULAR, (("m", "n"),), points, least=1) == []


def test_singular_values_of_low_rank() -> None:
    def multiply_again(a: torch.Tensor) -> torch.Tensor:
        left, values, right = torch.svd_lowrank(a, q=3)
        return (left * values.unsqueeze(-2)) @ right.mT + 3

    points = [(matrices(8, 2) @ matrices(2, 6),), (matrices(7, 2) @ matrices(2, 4),)]
    assert differences({"svd_lowrank": multiply_again}, (("m", "n"),), points, least=4) == []


def test_exponentials() -> None:
    def sizes(a: torch.Tensor) -> torch.Tensor:
        return 10.0 ** (torch.arange(a.shape[0]) - 3).reshape(-1, 1, 1)

    forms = {
        "numbers and small matrices": torch.linalg.matrix_exp,
        "each with its own squarings": lambda a: torch.linalg.matrix_exp(a * sizes(a)),
        "double": lambda a: torch.linalg.matrix_exp(a.double() * 8), "of one": lambda a: torch.matrix_exp(a.sum(0)),
        "orthogonal": lambda a: torch.linalg.matrix_exp(torch.stack([a - a.mT, 4 * (a.mT - a)])),
        "gradient": torch.func.grad(lambda a: (torch.linalg.matrix_exp(a) * a).sum()),
    }  # fmt: skip
    points = [(matrices(4, 5, 5),), (20 * matrices(3, 1, 1),), (matrices(0, 3, 3),), (matrices(2, 0, 0),)]
    assert differences(forms, (("b", "n", "n"),), points) == []


def test_polynomials_of_degrees_that_are_data() -> None:
    names = ("hermite_polynomial_h", "hermite_polynomial_he", "laguerre_polynomial_l", "legendre_polynomial_p")
    x, n = torch.cartesian_prod(torch.tensor([0.0, 1.0, -1.0, 0.3, -0.7, 2.5, float("nan")]),
                                torch.tensor([-1.0, 0, 1, 2, 3, 4, 7, 9.7, 130])).unbind(1)
    forms = {name: getattr(torch.special, name) for name in names}
    assert differences(forms, (("n",), ("n",)), [(x.contiguous(), n.contiguous()), (x[:1], n[:1]), (x[:0], n[:0])]) == []


def test_functions_of_physics() -> None:
    infinity, nan = float("inf"), float("nan")
    a, x = torch.cartesian_prod(torch.tensor([0.0, 0.1, 1, 3, 30, 200, infinity, -1]),
                                torch.tensor([0.0, 0.5, 2, 2.5, 29, 210, infinity, nan])).unbind(1)
    forms = {"igamma": torch.special.gammainc, "igammac": torch.special.gammaincc, "y0": lambda a, x: torch.special.bessel_y0(x * 0.3),
             "y1": lambda a, x: torch.special.bessel_y1(x), "airy": lambda a, x: torch.special.airy_ai(x.clamp(max=4) - a)}  # fmt: skip
    assert differences(forms, (("n",), ("n",)), [(a.contiguous(), x.contiguous()), (a[:0], x[:0])]) == []


HALVES = torch.tensor([0.0, -0.0, 1.0, -1.0, 0.5, 0.75, 65504.0, -6.1035e-05, 3.0, 1000.0, float("inf"), float("-inf"), float("nan")])


def test_binary_parts() -> None:
    floats = torch.cat([HALVES, torch.tensor([3.4e38, -1.2e-38, 1e-30, 1e30])])
    forms = {"frexp": torch.frexp, "halves": lambda x: torch.frexp(x.half())}
    assert differences(forms, (("n",),), [(floats,), (floats[2:3],), (floats[:0],)]) == []


def test_products_with_powers_of_two() -> None:
    floats, powers = torch.cartesian_prod(torch.cat([HALVES, torch.tensor([1e-30, -1e30])]),
                                          torch.tensor([0.0, 1, -1, 130, -130, 250, -7, 20])).unbind(1)
    forms = {
        "ldexp": lambda x, y: torch.ldexp(x, y.int()), "double": lambda x, y: torch.ldexp(x.double(), y.long() * 4),
        "float": lambda x, y: torch.ldexp(x, y.clamp(min=-20)), "halves": lambda x, y: torch.ldexp(x.half(), y.int()),
        "integers": lambda x, y: torch.ldexp((y / 10).int(), (y / 20).int()),
    }  # fmt: skip
    assert differences(forms, (("n",), ("n",)), [(floats.contiguous(), powers.contiguous()), (floats[:0], powers[:0])]) == []


def test_quantiles_in_the_tails() -> None:
    probabilities = torch.cat([torch.logspace(-37.6, -1, 40), 1 - torch.logspace(-7, -1, 20),
                               torch.tensor([0.0, 0.5, 1.0, -1.0, 2.0, float("nan")])])
    forms = {
        "ndtri": torch.special.ndtri, "double": lambda p: torch.special.ndtri(p.double()),
        "erfcx": lambda p: torch.special.erfcx(p.log()), "erfcx, double": lambda p: torch.special.erfcx(-p.double().log()),
    }  # fmt: skip
    assert differences(forms, (("n",),), [(probabilities,), (probabilities[:0],)]) == []


def test_counts_in_bins() -> None:
    forms = {"range": lambda x: torch.histc(x, 10, -1, 1.5), "own range": lambda x: torch.histc(x[::2], 7),
             "ends": lambda x: torch.histc(x.round(), 30, 0, 3), "halves": lambda x: torch.histc(x.half(), 9, -2, 1)}  # fmt: skip
    grid = torch.arange(-40, 41).view(9, 9) / 10  # on the ends of bins
    points = [(grid,), (matrices(300, 2),), (torch.full((1, 3), 2.0),), (torch.zeros(0, 3),)]
    assert differences(forms, (("n", "m"),), points) == []
