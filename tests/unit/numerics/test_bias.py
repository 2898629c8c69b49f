"""A result of halves that is cut off is found by its mean error; honest rounding, and a factor that all elements share, are not."""

from __future__ import annotations

import pytest
import torch

from lowering.numerics.judging import bias


def cut_off(exact: torch.Tensor) -> torch.Tensor:
    """Convert to bfloat16 by dropping the last 16 bits of float32."""
    return (exact.float().view(torch.int32) >> 16 << 16).view(torch.float32).bfloat16()


@pytest.fixture
def exact() -> torch.Tensor:
    return torch.randn(64, 8, generator=torch.Generator().manual_seed(0)).double()


def samples(exact: torch.Tensor, shared: float = 0.0) -> list[torch.Tensor]:
    """Return results in bfloat16, each with small errors, and off by a factor that is off by up to `shared`."""
    drawn = torch.Generator().manual_seed(1)
    return [(exact * (1 + torch.randn(exact.shape, generator=drawn).double() * 2e-3) * (1 + shared * factor)).bfloat16()
            for factor in torch.linspace(-1, 1, 6).double()]


def test_a_result_that_is_cut_off_is_described(exact: torch.Tensor) -> None:
    got, want = cut_off(exact), exact.bfloat16()
    assert bias.is_one_sided(got, want)
    assert -0.6 < bias.measure(got, exact) < -0.4
    assert "off towards zero by 0.4" in bias.describe(got, want, exact, samples(exact))


def test_rounding_has_no_bias(exact: torch.Tensor) -> None:
    want = exact.bfloat16()
    near = (exact * (1 + torch.randn(exact.shape, generator=torch.Generator().manual_seed(2)).double() * 2e-3)).bfloat16()
    assert not bias.is_one_sided(near, want)
    assert abs(bias.measure(near, exact)) < 0.1
    assert bias.measure(exact.round().bfloat16(), exact.round()) == 0.0  # whole numbers that bfloat16 holds


def test_a_shared_factor_is_rounding_where_that_of_eager_moves_as_far(exact: torch.Tensor) -> None:
    got, want = (exact * 0.997).bfloat16(), exact.bfloat16()
    assert bias.is_one_sided(got, want)
    assert bias.describe(got, want, exact, samples(exact))
    assert not bias.describe(got, want, exact, samples(exact, shared=4e-3))
