"""Quantized arithmetic gives what eager gives, exactly where integers decide, and reaches MHLO as plain ops at every size."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.export import Dim

import shapeline
from lowering.ops.quantized import quantization

aten, decomposed = torch.ops.aten, torch.ops.quantized_decomposed
NAN, INF = math.nan, math.inf
RANDOM = torch.Generator().manual_seed(0)
RANGES = {torch.int8: (-128, 127), torch.uint8: (0, 255), torch.int16: (-(2**15), 2**15 - 1), torch.int32: (-(2**31), 2**31 - 1)}

FINITE = torch.randn(5, 64, generator=RANDOM)
WIDE = FINITE * 3
WIDE[0, :10] = torch.tensor([0.5, 1.5, 2.5, -0.5, -1.5, INF, -INF, NAN, 1e9, -1e9]) * 0.5
SCALES = {shape: torch.rand(shape, generator=RANDOM) + 0.01 for shape in ((64,), (5, 1), (5, 2), (1, 1), (5, 64))}
ZEROS = {shape: torch.randint(-5, 5, shape, generator=RANDOM) for shape in SCALES}
BYTES = torch.randint(-128, 128, (16, 64), generator=RANDOM).to(torch.int8)

Case = tuple[Any, tuple[Any, ...], dict[str, Any]]


def list_decomposed() -> Iterator[Case]:
    for dtype, (low, high) in RANGES.items():
        limits = (low, high, dtype)
        stored = torch.randint(max(low, -999), min(high, 999), (5, 64), generator=RANDOM).to(dtype)
        for tensor in (WIDE, FINITE.bfloat16(), FINITE.half()):
            yield decomposed.quantize_per_tensor.default, (tensor, 0.5, 3, *limits), {}
            yield decomposed.quantize_per_tensor.tensor, (tensor, torch.tensor([0.37], dtype=torch.float64), torch.tensor([3]), *limits), {}
        for out in (None, torch.bfloat16):
            yield decomposed.dequantize_per_tensor.default, (stored, 0.37, 3, *limits), {"out_dtype": out}
            yield decomposed.dequantize_per_channel.default, (stored, SCALES[64,], ZEROS[64,], 1, *limits), {"out_dtype": out}
        yield decomposed.quantize_per_channel.default, (WIDE, SCALES[64,], ZEROS[64,], 1, *limits), {}
        yield decomposed.choose_qparams.tensor, (FINITE.bfloat16(), low, high, 1e-5, dtype), {}
        yield decomposed.choose_qparams_symmetric.tensor, (FINITE, low, high, 1e-5, dtype), {}
        yield decomposed.quantize_per_token.default, (WIDE, SCALES[5, 1].double(), ZEROS[5, 1], *limits), {}
        yield decomposed.quantize_per_channel_group.default, (FINITE, SCALES[5, 2], ZEROS[5, 2], *limits, 32), {}
        yield decomposed.dequantize_per_channel_group.default, (stored, SCALES[5, 2], ZEROS[5, 2], *limits, 32, torch.float32), {}
    yield decomposed.choose_qparams_per_token.default, (FINITE.half(), torch.int8), {}
    yield decomposed.choose_qparams_per_token_asymmetric.default, (FINITE, torch.int8), {}
    yield decomposed.fake_quant_per_channel.default, (FINITE, SCALES[64,], ZEROS[64,], 1, -128, 127), {}
    yield aten.fake_quantize_per_tensor_affine.default, (WIDE, 0.5, 1, -8, 7), {}
    yield aten.fake_quantize_per_tensor_affine.tensor_qparams, (WIDE, torch.tensor([0.5]), torch.tensor([1], dtype=torch.int32), -8, 7), {}
    yield aten.fake_quantize_per_channel_affine.default, (WIDE, SCALES[64,], ZEROS[64,].int(), 1, -8, 7), {}
    yield aten._int_mm.default, ((BYTES[:5].int() + 128).to(torch.uint8), BYTES.t()), {}


def list_torchao() -> Iterator[Case]:
    pytest.importorskip("torchao.quantization", reason="pip install -e .[quantization]")
    torchao = torch.ops.torchao
    for block, shape in (([1, 64], (5, 1)), ([1, 32], (5, 2)), ([5, 64], (1, 1))):
        for mapping in ("SYMMETRIC", "SYMMETRIC_NO_CLIPPING_ERR", "ASYMMETRIC"):
            for keep in (False, True):
                yield torchao.choose_qparams_affine.default, (FINITE, mapping, block, torch.int8, -8, 7, None, None, torch.int32, keep), {}
        scale, zero = SCALES[shape], ZEROS[shape].to(torch.int8)
        yield torchao.quantize_affine.default, (WIDE, block, scale, zero, torch.int8, -8, 7), {}
        yield torchao.quantize_affine.default, (FINITE.bfloat16(), block, scale, zero, torch.uint4), {}
        yield torchao.dequantize_affine.default, (BYTES[:5], block, scale, zero, torch.int8), {"output_dtype": torch.bfloat16}
        for dtype in (torch.float8_e4m3fn, torch.float8_e5m2):
            yield torchao.choose_scale_float8.default, (FINITE, block, dtype, torch.float8_e8m0fnu), {}
            yield torchao.quantize_affine_float8_non_decomposed.default, (WIDE, scale, dtype), {}
            yield torchao.dequantize_affine_float8_non_decomposed.default, (FINITE.to(dtype), scale), {}


@pytest.mark.parametrize("family", [list_decomposed, list_torchao])
def test_arithmetic_is_eagers_to_the_last_bit(family: Any) -> None:
    for op, args, kwargs in family():
        given = [(value.dtype, tuple(value.shape)) if isinstance(value, torch.Tensor) else value for value in args]
        wanted, found = op(*args, **kwargs), quantization.find(op)(*args, **kwargs)
        pairs = zip(wanted, found, strict=True) if isinstance(wanted, tuple) else [(wanted, found)]
        for want, got in pairs:
            assert (got.dtype, got.shape) == (want.dtype, want.shape), (op, given)
            torch.testing.assert_close(got.double(), want.double(), rtol=0, atol=0, equal_nan=True, msg=f"{op} {given} {kwargs}")


class Quantized(torch.nn.Module):
    """Ops of the family on a tensor (batch, 64), with integer products."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", BYTES)
        self.register_buffer("scales", SCALES[64,])

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        limits = (-128, 127, torch.int8)
        static = decomposed.quantize_per_tensor(x, 0.037, 3, *limits)
        scale, zero = decomposed.choose_qparams_symmetric.tensor(x, -127, 127, 1e-5, torch.int8)
        dynamic = decomposed.quantize_per_tensor.tensor(x, scale, zero, *limits)
        token_scale, token_zero = decomposed.choose_qparams_per_token_asymmetric(x, torch.int8)
        token = decomposed.quantize_per_token(x, token_scale, token_zero, *limits)
        unsigned = decomposed.quantize_per_tensor(x, 0.037, 128, 0, 255, torch.uint8)
        channels = decomposed.quantize_per_channel(x, self.scales, torch.zeros(64, dtype=torch.int64), 1, *limits)
        small = (x * 300).to(torch.float8_e4m3fn)
        scaled = torch._scaled_mm(small, self.weight.float().to(small.dtype).t(), self.scales[0], self.scales[1], out_dtype=torch.float32)
        return (static, scale, dynamic, token, unsigned, channels,
                decomposed.dequantize_per_token(token, token_scale, token_zero, *limits, torch.float32),
                torch._int_mm(static, self.weight.t()), torch._int_mm(unsigned, self.weight.t()), small, scaled,
                (x * 1e5).to(torch.float8_e5m2), 1.0 / scale)  # fmt: skip


def test_the_family_is_plain_arithmetic_and_integer_dots_at_every_size() -> None:
    lowered = shapeline.lower(Quantized(), (FINITE,), dynamic_shapes=({0: Dim("batch", min=1, max=100)},))
    lines = str(lowered.mlir["mhlo"]).splitlines()
    assert not [line for line in lines if "custom_call" in line and "shape_assertion" not in line]
    assert sum("dot_general" in line and "tensor<?x64xi8>, tensor<16x64xi8>) -> tensor<?x16xi32>" in line for line in lines) == 2
    lowered.verify(points=4)


def test_an_op_packed_for_a_gpu_is_refused_with_a_fix() -> None:
    with pytest.raises(NotImplementedError, match=r"packed for a kernel.*IntxWeightOnlyConfig"):
        quantization.find(aten._weight_int4pack_mm.default)()
