"""Gradients in forward of ops whose backward torch leaves to its kernels, or derives from a definition of its own."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.nn import functional

from tests.ops.forms import differences

LABELS = torch.tensor([[0, 2, -1, 1, 1, 1]])  # those behind the first -1 do not count
MATRIX = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))


def gradients(forms: dict[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """Return the gradient of the sum of squares of each form."""
    return {name: torch.func.grad(partial(lambda form, x: form(x).square().sum(), form)) for name, form in forms.items()}


def test_gradients_are_those_of_eagers_definitions() -> None:
    forms: dict[str, Callable[..., Any]] = {
        "missing labels": lambda x: functional.multilabel_margin_loss(x, LABELS.expand(x.shape[0], 6)),
        "margin": lambda x: functional.multi_margin_loss(x, (x[:, 0] > 0).long(), p=2),
        "fmin": lambda x: torch.fmin(x, x[0]), "fmax": lambda x: torch.fmax(x[0], x),
        "masked_scatter": lambda x: x.masked_scatter(x > 0, x * 2),
        "pdist": lambda x: functional.pdist(x.mT.contiguous()),
        "slogdet": lambda x: torch.linalg.slogdet(MATRIX * x[0, :4] + 4 * torch.eye(4)).logabsdet,
        "slogdet, transposed": lambda x: torch.linalg.slogdet((MATRIX * x[0, :4] + 4 * torch.eye(4)).mT).logabsdet,
        "cumprod": lambda x: (x * (x > -1)).cumprod(0),
        "complex": lambda x: torch.fft.irfft(torch.fft.rfft(x, n=8, dim=1) * 1j, n=7, dim=1),
    }  # fmt: skip
    points = [(torch.randn(rows, 6, generator=torch.Generator().manual_seed(rows)),) for rows in (4, 2, 1)]
    assert differences(gradients(forms), (("b", 6),), points, least=1) == []


def test_gradients_of_resized_maps() -> None:
    def resize(x: torch.Tensor, **settings: Any) -> torch.Tensor:
        return functional.interpolate(x[None, None], **settings)

    forms: dict[str, Callable[..., Any]] = {
        "nearest": partial(resize, scale_factor=1.7), "nearest-exact": partial(resize, scale_factor=1.7, mode="nearest-exact"),
        "one row that keeps its corners": partial(resize, scale_factor=1.7, mode="bilinear", align_corners=True),
        "recomputed": partial(resize, scale_factor=(2.0, 0.6), mode="bicubic", recompute_scale_factor=True),
        "antialiased": partial(resize, size=(5, 4), mode="bicubic", antialias=True),
    }  # fmt: skip
    points = [(torch.randn(rows, 6, generator=torch.Generator().manual_seed(rows)),) for rows in (4, 1)]
    assert differences(gradients(forms), (("b", 6),), points, least=1) == []
