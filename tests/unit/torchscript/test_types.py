"""Types of results: a size that can have one value only is an int in all of them."""

from __future__ import annotations

import torch
from torch.nn import functional

import shapeline
from lowering.sizes.evaluation import evaluate
from lowering.sizes.ranges import Bound
from lowering.symbols.allowed import narrow


class OneRow(torch.nn.Module):
    """A small picture, halved until one row is left, by the range of `low` and by a condition on `high`.

    Tracing types the sizes of layer_norm and gelu as 1, and those of convolutions as expressions.
    """

    def __init__(self) -> None:
        super().__init__()
        self.down, self.mix, self.norm = torch.nn.Conv2d(3, 4, 8, 8), torch.nn.Conv2d(4, 4, 1), torch.nn.LayerNorm(4)

    def forward(self, low: torch.Tensor, high: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        rows = self.down(low)
        rows = rows + self.norm(self.mix(rows).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        pooled = functional.max_pool2d(high, 8)
        if pooled.shape[-2] <= 1:
            pooled = pooled + functional.gelu(pooled)
        return rows, pooled.flatten(2)


def test_a_size_with_one_value_is_static_in_operands_and_results() -> None:
    torch.manual_seed(0)
    symbols = {"low": {"min": 8, "max": 15, "example": 9}, "high": {"min": 8, "max": 40, "example": 10}, "width": (8, 40)}
    dims = ({2: "low", 3: "width"}, {2: "high", 3: "width"})
    lowered = shapeline.lower(OneRow(), (torch.randn(2, 3, 9, 19), torch.randn(2, 3, 10, 19)), dynamic_shapes=dims, symbols=symbols)
    admitted = [high for high in range(8, 41) if all(evaluate(guard, {"high": high}) for guard in lowered.signature.guards)]
    assert admitted == list(range(8, 16))
    sizes = [point.point.sizes for point in lowered.verify(4).points]
    assert len({size["width"] for size in sizes}) > 1
    assert max(size["high"] for size in sizes) < 16


def test_only_conditions_on_one_symbol_narrow_its_range() -> None:
    bounds = {"n": Bound(8, 40), "m": Bound(2, 40, 2), "k": Bound(1, None)}
    assert narrow(bounds, ["n // 8 <= 1", "Eq(Mod(m, 5), 0)", "n + m < 20", "k < 4"]) == {
        "n": Bound(8, 15), "m": Bound(10, 40, 2), "k": Bound(1, None)}  # fmt: skip
    assert narrow(bounds, ["n < 2", "unknown(m) < 4"]) == bounds
