"""Complex tensors are lowered by parts where no level has the op: reductions, numbers, comparisons, powers and functions."""

from __future__ import annotations

from typing import Any

import torch
from torch.export import Dim
from torch.nn import functional

import shapeline
from tests.ops.forms import differences


class Forms(torch.nn.Module):
    def forward(self, z: torch.Tensor) -> list[Any]:
        rows, columns = z.shape
        sums = [z.sum(), z.mean(0), z.mean((0, 1), keepdim=True), z.var(0, unbiased=False), z.cumsum(0)]
        numbers = [z * rows, z / columns, z + 1e-5, z * (2 + 3j), rows / (z + 3), torch.full_like(z, 1j), z.masked_fill(z.real > 0, 1j)]
        questions = [z == z.conj(), z != z.flip(0), torch.isnan(z), torch.isfinite(z), torch.isclose(z, z + 1e-9), z.any(),
                     z.count_nonzero()]
        powers = [z**2, z**-1, z**1.5, z ** z.conj(), 2.0**z, z.abs() ** z]
        functions = [z.sinh(), z.tan(), functional.silu(z), z.sgn(), z.log10(), z.exp2(), functional.l1_loss(z, z.flip(0))]
        return sums + numbers + questions + powers + functions


def test_forms_of_complex_tensors() -> None:
    dims = {0: Dim("rows", min=1, max=8), 1: Dim("columns", min=1, max=20)}
    shapeline.lower(Forms(), (torch.randn(3, 7, dtype=torch.complex64),), dynamic_shapes=(dims,)).verify(4)


def test_inverse_functions_by_the_sign_of_zero_and_products() -> None:
    values = torch.tensor([0.0, -0.0, 0.5, -0.5, 1.0, -1.0, 2.0, -2.0])
    z = torch.complex(*(part.flatten() for part in torch.meshgrid(values, values, indexing="ij")))
    forms = {name: getattr(torch, name) for name in ("acos", "asin", "atan", "acosh", "asinh", "atanh", "prod")}
    forms |= {"prod of rows": lambda z: z[None].prod(1, keepdim=True), "prod of reals": lambda z: z.real.prod(0, dtype=torch.complex128)}
    assert differences(forms, (("n",),), [(z,), (z[1:2],), (z[:0],), (z.conj_physical() * 0.9,)]) == []


def test_powers_with_tensors_of_other_dtypes() -> None:
    forms = {
        "whole exponents": lambda z: z ** torch.arange(-2, 4).unsqueeze(-1), "a whole exponent": lambda z: z ** torch.tensor(3),
        "whole bases": lambda z: torch.arange(1, 4).unsqueeze(-1) ** z, "a double": lambda z: z ** torch.tensor(1.5, dtype=torch.float64),
        "bools": lambda z: z ** torch.tensor([[True], [False]]), "doubles": lambda z: z ** torch.tensor([[0.5], [-1]], dtype=torch.float64),
    }  # fmt: skip
    points = [(torch.complex(torch.randn(size), torch.randn(size)),) for size in (4, 1, 7)]
    assert differences(forms, (("n",),), points) == []
