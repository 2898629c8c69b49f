"""Quantized types of StableHLO and MHLO: which ops have them, and that StableHLO's interpreter computes the plain program's numbers."""

from __future__ import annotations

import pytest
import torch
from torch.export import Dim

import shapeline
from lowering.ir import mlir, quantized_types
from lowering.level import Level
from lowering.numerics.running import runner, xla
from shapeline.lowered import Lowered

decomposed, functional = torch.ops.quantized_decomposed, torch.nn.functional
SIGNED, UNSIGNED = (-128, 127, torch.int8), (0, 255, torch.uint8)
TYPES = {"export": {"composites": {"quantize": "pytorch.quantize", "dequantize": "pytorch.dequantize"}},
         "stablehlo": {"quantization": "types"}}  # fmt: skip
DIMS = ({0: Dim("batch", min=1, max=9), 2: Dim("width", min=4, max=40)},)


class Layers(torch.nn.Module):
    """A convolution, a linear layer, and weights that no product reads; then quantizations that no type holds."""

    def __init__(self) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(0)
        for name, shape in (("kernel", (6, 4, 3)), ("weight", (5, 6)), ("factor", (5,))):
            self.register_buffer(name, torch.randint(-128, 128, shape, generator=random).to(torch.int8))
            self.register_buffer(f"{name}_scales", torch.rand(shape[0], generator=random) / 99 + 0.001)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        image = decomposed.dequantize_per_tensor(decomposed.quantize_per_tensor(x, 0.02, 107, *UNSIGNED), 0.02, 107, *UNSIGNED)
        convolved = functional.conv1d(image, decomposed.dequantize_per_channel(self.kernel, self.kernel_scales, None, 0, *SIGNED),
                                      padding=1)
        means = decomposed.quantize_per_tensor(convolved.mean(-1), 0.01, -4, *SIGNED)
        means = decomposed.dequantize_per_tensor(means, 0.01, -4, *SIGNED)
        weight = decomposed.dequantize_per_channel(self.weight, self.weight_scales, None, 0, *SIGNED)
        result = functional.linear(means, weight) * decomposed.dequantize_per_tensor(self.factor, 0.01, 3, *SIGNED)
        scales, points = decomposed.choose_qparams_per_token_asymmetric(means, torch.int8)
        return result, decomposed.quantize_per_token(means, scales, points, *SIGNED), decomposed.quantize_per_tensor(x, 0.5, 0, *SIGNED)


@pytest.fixture(scope="module")
def lowered() -> Lowered:
    x = torch.randn(3, 4, 10, generator=torch.Generator().manual_seed(1))
    return shapeline.lower(Layers(), (x,), dynamic_shapes=DIMS, stages=TYPES)


@pytest.mark.parametrize("level", ["stablehlo", "mhlo"])
def test_products_are_of_quantized_types(lowered: Lowered, level: str) -> None:
    lines = str(lowered.mlir[level]).splitlines()
    products = [line for line in lines if "dot_general" in line or f"{level}.convolution" in line]
    assert len(products) == 2 and all("!quant.uniform<i32:f32:" in line.rpartition("->")[2] for line in products), products
    assert sum("uniform_quantize" in line for line in lines) == 2
    assert "composite" not in str(lowered.mlir[level])


def test_the_rest_is_arithmetic_and_named(lowered: Lowered) -> None:
    causes = [remark.message for remark in lowered.warnings if remark.code == "quantization_not_typed"]
    assert len(causes) == 2 and any("computed at run time" in cause for cause in causes)
    assert any("other ops use" in cause for cause in causes)


def test_results_are_eagers(lowered: Lowered) -> None:
    lowered.verify(points=4)


def test_stablehlos_own_pass_gives_the_same_numbers(lowered: Lowered) -> None:
    form = lowered.program.at(Level.STABLEHLO)
    assert form is not None
    stock = mlir.copy(form.ir)
    mlir.run(stock, quantized_types.LEGALIZE, "test")
    quantized_types.expand_broadcasts(stock)
    device = xla.Xla("cpu")
    given = {"x": torch.randn(2, 4, 7, generator=torch.Generator().manual_seed(2))}
    found = runner.make_runner(form.replace_ir(form.level, stock), device)(given)
    for one, other in zip(found, runner.make_runner(form, device)(given), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


def test_a_program_without_composites_says_so() -> None:
    found = shapeline.lower(torch.nn.ReLU(), (torch.ones(2),), dynamic_shapes=({0: "batch"},), symbols={"batch": (1, 9)},
                            stages={"stablehlo": {"quantization": "types"}})
    assert any(remark.code == "quantization_not_typed" and "stages.export.composites" in remark.message for remark in found.warnings)
