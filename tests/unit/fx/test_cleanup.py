"""What no later level has is refused while the user's line is known."""

from __future__ import annotations

from pathlib import Path

import torch
from torch.nn.attention.flex_attention import flex_attention

from lowering import pipeline
from lowering.job import Job
from lowering.model import Input, Model, Symbol
from lowering.stages.export import Export


class Flexible(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return flex_attention(x, x, x, score_mod=lambda score, batch, head, row, column: score + (row - column) * 0.1)  # type: ignore[return-value]


def test_flex_attention_of_a_strict_capture_is_refused_by_name(tmp_path: Path) -> None:
    model = Model("flexible", {"_target_": f"{__name__}.Flexible"}, {"x": Input("float32", ("b", 2, 16, 8))}, {"b": Symbol(2, 4)})
    result = pipeline.run(Job(model, {"export": Export(archive=False, strict=True)}), tmp_path)
    assert (result.outcome, result.stage) == ("unsupported", "export")
    (problem,) = result.problems
    assert problem.place.startswith("flex_attention at")
    assert "scaled_dot_product_attention" in problem.fix
