"""Weights of 4 bits that PyTorch packed for a kernel of the CPU lower as pairs in bytes."""

from __future__ import annotations

import pytest
import torch
from torch.export import Dim

import shapeline
from lowering.errors import Unsupported

aten = torch.ops.aten
BATCH = {0: Dim("batch", min=1, max=9)}


class Packed(torch.nn.Module):
    """Two products with one packed weight (48, 64), quantized in groups of 32."""

    def __init__(self) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(0)
        values = torch.randint(0, 16, (48, 64), generator=random, dtype=torch.int32)
        self.register_buffer("weight", aten._convert_weight_to_int4pack_for_cpu(values, 1))
        self.register_buffer("scales", torch.rand(2, 48, 2, generator=random))
        self.pairs = (values[:, 0::2] + values[:, 1::2] * 16).to(torch.uint8)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return (aten._weight_int4pack_mm_for_cpu(x, self.weight, 32, self.scales),
                aten._weight_int4pack_mm_for_cpu(2 * x, self.weight, 32, self.scales))


def test_a_packed_weight_becomes_pairs_of_the_same_size_and_results_are_eagers() -> None:
    module = Packed()
    before = module.weight.clone()
    lowered = shapeline.lower(module, (torch.randn(3, 64),), dynamic_shapes=(BATCH,))
    assert torch.equal(lowered.weights["weight"], module.pairs) and torch.equal(module.weight, before)
    assert not [line for line in str(lowered.mlir["mhlo"]).splitlines() if "custom_call" in line and "shape_assertion" not in line]
    lowered.verify(points=3)


def test_a_weight_that_is_an_input_is_refused_by_name_and_line() -> None:
    class Given(torch.nn.Module):
        def forward(self, x: torch.Tensor, weight: torch.Tensor, scales: torch.Tensor) -> torch.Tensor:
            return aten._weight_int4pack_mm_for_cpu(x, weight, 32, scales)  # the line

    module = Packed()
    with pytest.raises(Unsupported, match=r"_weight_int4pack_mm_for_cpu.*test_packed_products.py:\d+.*no parameter or buffer"):
        shapeline.lower(Given(), (torch.randn(4, 64), module.weight, module.scales), dynamic_shapes=(BATCH, None, None))
