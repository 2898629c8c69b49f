"""Norms, moments and extremes of few elements, of NaN and infinities, and of halves, beside eager."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch.nn import functional

from tests.ops.forms import differences
from tests.ops.values import INF, NAN

normal = partial(torch.randn, generator=torch.Generator().manual_seed(0))
NORMS: dict[str, Callable[..., Any]] = {
    **{f"vector_norm {order}": partial(torch.linalg.vector_norm, ord=order, dim=1) for order in (0, 1, 2, 3, -1, 0.5, INF, -INF)},
    "vector_norm of all": torch.linalg.vector_norm,
    "norm": lambda x: x.norm(),
    "norm 1": lambda x: torch.norm(x, 1, dim=1),
    "norm fro": lambda x: torch.norm(x, "fro"),
    "norm over two dims": lambda x: torch.norm(x, dim=(0, 1), keepdim=True),
    "matrix_norm": torch.linalg.matrix_norm,
    "linalg.norm": torch.linalg.norm,
    "frobenius_norm": lambda x: torch.ops.aten.frobenius_norm.dim(x, [0, 1]),
    "normalize": functional.normalize,
}


@pytest.mark.parametrize("dtype", [torch.complex64, torch.float32, torch.float16])
def test_norms(dtype: torch.dtype) -> None:
    x = (torch.complex(normal(5, 7), normal(5, 7)) if dtype.is_complex else normal(5, 7)).to(dtype)
    forms = NORMS if dtype.is_floating_point else {name: form for name, form in NORMS.items() if name not in ("vector_norm 0", "normalize")}
    points = [(x,), (x[:1],), (x[:, :1],), (x[:2, :3],)]
    if dtype is torch.float16:
        forms = {name: form for name, form in forms.items() if name != "vector_norm 0.5"}
        points += [(torch.full((2, 3), 300.0).half(),)]
    assert differences(forms, (("n", "m"),), points, least=1) == []


MOMENTS: dict[str, Callable[..., Any]] = {
    f"{name} {text}": partial(getattr(torch, name), **given)
    for name in ("var", "std", "var_mean", "std_mean")
    for text, given in {"": {}, "dim": {"dim": 1}, "biased": {"dim": 1, "unbiased": False}, "of all, biased": {"unbiased": False},
                        "of dims": {
        "dim": (0, 1), "keepdim": True, "correction": 3}, "dim -2": {"dim": -2, "correction": 3}, "fraction": {"dim": 1, "correction": 2.5},
        **{f"correction {c}": {"dim": 1, "correction": c} for c in (0, 2, -1)}}.items()
}  # fmt: skip


def test_moments_of_few_elements() -> None:
    x = normal(5, 7)
    shapes = [(x,), (x[:1],), (x[:, :1],), (x[:2, :2],), (x[:1, :1],), (x[:3, :0],), (x[:0],), (torch.full((2, 3), 5.0),)]
    assert differences(MOMENTS, (("n", "m"),), shapes) == []


def test_a_moment_of_halves_does_not_overflow() -> None:
    forms = {**MOMENTS, "sum": lambda x: x.sum(1) / 4, "mean": lambda x: x.mean(), "mean of a dim": lambda x: x.mean(0)}
    x = (10000 + 100 * normal(40, 6)).half()
    assert differences(forms, (("n", "m"),), [(x,), (x[:, :1],)]) == []


ORDERED = torch.tensor([[1.0, NAN, 3.0, NAN, 2.0], [NAN] * 5, [INF, -INF, 0.0, 4.0, 5.0], [2.0, 2.0, 1.0, 1.0, 2.0], [-INF] * 5,
                        [INF, 1, 2, INF, NAN]])
EXTREMES: dict[str, Callable[..., Any]] = {
    **{f"{name} {text}": partial(getattr(torch, name), **given) for name in ("max", "min", "argmax", "argmin")
       for text, given in {"": {}, "dim": {"dim": 1}, "dim 0": {"dim": 0, "keepdim": True}}.items()},
    **{f"{name} {dim}": partial(getattr(torch, name), dim=dim) for name in ("amax", "amin", "cummax", "cummin") for dim in (0, 1)},
    "median": torch.median, "median of rows": lambda x: torch.median(x, 1)[0], "nanmedian": torch.nanmedian,
    "kthvalue": lambda x: torch.kthvalue(x, 1, 1)[0], "topk": lambda x: torch.topk(x, 1, 1)[0],
    "sort": lambda x: torch.sort(x, dim=1, stable=True), "aminmax": lambda x: torch.aminmax(x, dim=1),
}  # fmt: skip


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_nan_is_the_extreme(dtype: torch.dtype) -> None:
    x = ORDERED.to(dtype)
    assert differences(EXTREMES, (("n", "m"),), [(x,), (x[:1],), (x[:, :1],), (x[2:4, :3],), (x[:2, 1:2],)], least=1) == []


def test_extremes_and_truth_of_bytes_and_bools() -> None:
    dims = {"": {}, "dim": {"dim": 1}}
    forms = {f"{name} {text}": partial(getattr(torch, name), **given) for name in ("max", "min", "amax", "amin", "any", "all")
             for text, given in dims.items()}
    x = torch.tensor([[1, 255, 3], [0, 200, 7], [0, 0, 0]], dtype=torch.uint8)
    more = {"argmax": lambda x: x.argmax(1), "argmin": lambda x: x.argmin(), "abs": torch.abs}
    assert differences({**forms, **more}, (("n", "m"),), [(x,), (x[:1],), (x[2:, :1],)], least=1) == []
    assert differences(forms, (("n", "m"),), [(x.bool(),), (x.bool()[2:],), (x.bool()[:, 1:2],)], least=1) == []
