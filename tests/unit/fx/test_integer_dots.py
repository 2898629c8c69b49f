"""Convolutions of quantized operands are convolutions of integers, padding and zero points included."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.export import Dim

import shapeline
from lowering.ops.quantized import integer_products

decomposed, functional = torch.ops.quantized_decomposed, torch.nn.functional
RANDOM = torch.Generator().manual_seed(0)
SIGNED, UNSIGNED = (-128, 127, torch.int8), (0, 255, torch.uint8)


def draw_bytes(*shape: int) -> torch.Tensor:
    return torch.randint(-128, 128, shape, generator=RANDOM).to(torch.int8)


class Convolutions(torch.nn.Module):
    """Convolutions of images (batch, 8, 12, width), quantized per tensor, and weights quantized per channel."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", draw_bytes(6, 8, 3, 3))
        self.register_buffer("grouped", draw_bytes(6, 4, 3, 2))
        self.register_buffer("row", draw_bytes(6, 8, 5))
        self.register_buffer("scales", torch.rand(6, generator=RANDOM) / 99 + 0.001)
        self.register_buffer("zeros", torch.zeros(6, dtype=torch.int64))
        self.register_buffer("points", torch.arange(6))

    def dequantize(self, weight: torch.Tensor, points: torch.Tensor | None) -> torch.Tensor:
        return decomposed.dequantize_per_channel(weight, self.scales, points, 0, *SIGNED)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        unsigned, first = (decomposed.dequantize_per_tensor(decomposed.quantize_per_tensor(value, 0.02, 107, *UNSIGNED), 0.02, 107,
                                                            *UNSIGNED)
                           for value in (x, x[:, :, 0]))
        signed = decomposed.dequantize_per_tensor(decomposed.quantize_per_tensor(x, 0.03, -5, *SIGNED), 0.03, -5, *SIGNED)
        weight, grouped = self.dequantize(self.weight, self.zeros), self.dequantize(self.grouped, None)
        return (functional.conv2d(unsigned, weight, self.scales, padding=(2, 1)),
                functional.conv2d(signed, weight, padding="same", dilation=2),
                functional.conv2d(signed, grouped, stride=(2, 1), padding=1, groups=2),
                functional.conv1d(first, self.dequantize(self.row, None), padding=2),
                functional.conv2d(signed, self.dequantize(self.weight, self.points), padding=1))  # fmt: skip


def test_convolutions_are_of_integers_at_every_size() -> None:
    dims = {0: Dim("batch", min=1, max=9), 3: Dim("width", min=4, max=40)}
    lowered = shapeline.lower(Convolutions(), (torch.randn(3, 8, 12, 10, generator=RANDOM),), dynamic_shapes=(dims,))
    lines = [line for line in str(lowered.mlir["mhlo"]).splitlines() if "mhlo.convolution" in line]
    operands = [line.rpartition(" : ")[2] for line in lines]
    assert [("xi8>" in types, types.endswith("xi32>")) for types in operands].count((True, True)) == 4, lines
    assert len(lines) == 5, "weights with zero points are convolved as floats"
    lowered.verify(points=4)


@pytest.mark.parametrize("padding", [[1, 2], [0, 0], "same", "valid"])
@pytest.mark.parametrize(("dtype", "point"), [(torch.uint8, 3), (torch.int8, -7), (torch.uint8, 128)])
def test_sums_are_exact(padding: Any, dtype: torch.dtype, point: int) -> None:
    image = torch.randint(0, 256, (2, 4, 7, 9), generator=RANDOM).to(torch.uint8).view(dtype)
    weight = draw_bytes(3, 4, 3, 3)
    found = integer_products.convolve(image, 1.0, point, weight, 1.0, None, [1, 1], padding, [1, 1], 1)
    wanted = torch.conv2d(image.double() - point, weight.double(), padding=padding)
    assert torch.equal(found.double(), wanted)
