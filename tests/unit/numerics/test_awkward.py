"""Right programs whose numbers are at a pole, too large for sums, too small for XLA, or only rounding; and wrong programs like them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lowering.model import Input
from tests.unit.models.verified_jobs import codes, lowered, model

pytestmark = pytest.mark.usefixtures("without_iree")


class Awkward(torch.nn.Module):
    """Saturates before a pole, overflows within a mean, underflows, and leaves the rounding of a transform."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"pole": (x * 40).tanh().atanh(), "mean": (x * 1e38).mean(-1), "tiny": (x * 1e-38) * 1e-3,
                "noise": torch.fft.irfft(torch.fft.rfft(x), 8) - x}


def test_rounding_at_poles_and_limits_is_no_mismatch(tmp_path: Path) -> None:
    result = lowered(model(Awkward, {"x": Input("float32", ("n", 8))}, high=64), tmp_path)
    assert result.outcome == "ok", result.problems
    assert "verify_arbitrated" in codes(result)


class Wrong(torch.nn.Module):
    """Is not a number, or infinite, for some inputs of the export that are far from the pole."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        near = (x.abs() < 0.01) & (x != 0) if torch.compiler.is_exporting() else torch.zeros_like(x, dtype=torch.bool)
        return {"pole": (x * 40).tanh().atanh().masked_fill(near, torch.inf), "nan": x.sin().masked_fill(near, torch.nan)}


def test_infinities_where_rounding_leads_to_none_are_a_mismatch(tmp_path: Path) -> None:
    result = lowered(model(Wrong, {"x": Input("float32", ("n", 64))}, high=64), tmp_path)
    assert result.outcome == "mismatch"
    said = " ".join(map(str, result.problems))
    assert "output 'pole'" in said and "output 'nan'" in said


class Subnormal(torch.nn.Module):
    """Multiplies infinities by a number that XLA takes for zero, and scales such a number up again."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"product": x * 1e-40, "scaled": (x * 1e-40) * 1e38, "logarithm": (x.abs() * 1e-40).log()}


def test_subnormal_numbers_that_xla_takes_for_zeros_are_no_mismatch(tmp_path: Path) -> None:
    result = lowered(model(Subnormal), tmp_path)
    assert result.outcome == "ok", result.problems
    assert any("subnormal numbers are zeros" in remark.message for remark in result.warnings)


class Branching(torch.nn.Module):
    """Computes something else in float64, which the export does in float32 too, and a part that rounds far."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        is_other = x.dtype is torch.float64 or torch.compiler.is_exporting()
        return {"branch": x.sin() * (1.5 if is_other else 1.0),
                "between": x.cos() * (1.2 if torch.compiler.is_exporting() else 1.5 if is_other else 1.0)}


def test_float64_that_computes_something_else_than_eager_judges_nothing(tmp_path: Path) -> None:
    result = lowered(model(Branching), tmp_path)
    assert result.outcome == "mismatch"
    said = " ".join(map(str, result.problems))
    assert "output 'branch'" in said and "output 'between'" in said
    assert "float64 computes something else than eager" in said
