"""Cumulative ops give what torch gives at every length, in time and memory that grow little faster than the length."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.export import Dim

import shapeline
from lowering.ops.sequences import scans

NAN, INF = math.nan, math.inf
PAIRS = [(getattr(scans, name), getattr(torch, name)) for name in ("cumsum", "cumprod", "cummax", "cummin", "logcumsumexp")]
SPECIAL = torch.tensor([[1.0, NAN, 2.0, NAN, -INF], [-INF, 3.0, 3.0, INF, 1.0], [-0.0, 0.0, -1.0, -1.0, -2.0], [INF, -INF, 0.0, 1.0, INF]])
ENDS = torch.tensor([[2**63 - 1, -(2**63), 0], [-(2**63), -(2**63), 2**63 - 1]])


@pytest.mark.parametrize("size", [0, 1, 2, 3, 8, 9])
@pytest.mark.parametrize(("ours", "torchs"), PAIRS)
def test_every_length_gives_what_torch_gives(ours: Callable[..., Any], torchs: Callable[..., Any], size: int) -> None:
    tensor = torch.randn(3, size, 2, generator=torch.Generator().manual_seed(size)).round(decimals=1)
    for dim in (1, -2):
        torch.testing.assert_close(tuple(ours(tensor, dim)), tuple(torchs(tensor, dim)))


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize(("ours", "torchs"), PAIRS)
def test_special_values_go_on_as_in_torch(ours: Callable[..., Any], torchs: Callable[..., Any], dim: int) -> None:
    torch.testing.assert_close(tuple(ours(SPECIAL, dim)), tuple(torchs(SPECIAL, dim)), equal_nan=True)


@pytest.mark.parametrize(("ours", "torchs"), PAIRS[:4])
def test_integers_wrap_and_have_ends(ours: Callable[..., Any], torchs: Callable[..., Any]) -> None:
    for tensor in (ENDS, ENDS > 0, ENDS.to(torch.int8)):
        assert all(map(torch.equal, tuple(ours(tensor, 1)), tuple(torchs(tensor, 1))))


def test_halves_are_rounded_once() -> None:
    tensor = torch.full((300,), 1.01, dtype=torch.bfloat16)
    assert torch.equal(scans.cumsum(tensor, 0), torch.cumsum(tensor, 0))


class Cumulative(torch.nn.Module):
    def forward(self, x: torch.Tensor, ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
        largest = x.cummax(1)
        return x.cumsum(0), ids.cumprod(-1), largest.values, largest.indices, x.logcumsumexp(1)


def test_no_level_is_quadratic_in_a_dynamic_length() -> None:
    dims = {0: Dim("rows", min=1, max=40), 1: Dim("length", min=1, max=70)}
    lowered = shapeline.lower(Cumulative(), (torch.randn(3, 7), torch.arange(21).reshape(3, 7)), dynamic_shapes=(dims, dims))
    lowered.verify(5)
    assert not re.search(r"tensor<\?x\?x\?", str(lowered.mlir["mhlo"]))


class Rounded(torch.nn.Module):
    """Scans along a dim whose size is a long expression."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        size = x.shape[0] // 2 + (x.shape[0] + 3) // 5 + x.shape[0] % 3 + max(x.shape[0] - 7, 0) // 2
        ramp = torch.arange(size).sin()
        return ramp.cumsum(0), ramp.cumprod(0), ramp.logcumsumexp(0), *ramp.cummin(0)


def test_a_length_that_is_a_long_expression_is_reduced_at_once() -> None:
    shapeline.lower(Rounded(), (torch.randn(20),), dynamic_shapes=({0: Dim("n", min=2, max=90)},)).verify(5)


def test_a_length_without_a_maximum_is_scanned_to_the_largest_that_a_level_holds() -> None:
    lowered = shapeline.lower(Running(), (torch.randn(5),), dynamic_shapes=({0: Dim("n")},))
    for size in (1, 1000):
        x = torch.randn(size)
        torch.testing.assert_close(lowered(x), x.cumsum(0), rtol=1e-4, atol=1e-4)


class Running(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.cumsum(0)
