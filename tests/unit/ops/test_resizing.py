"""Interpolation takes eager's own indices and weights, in every mode, with scales and sizes that may be dynamic."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import interpolate

from lowering import pipeline
from lowering.job import Job
from lowering.model import Input, Model, Symbol
from lowering.ops.images import resizing
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from lowering.stages.verify import Verify

STAGES = {"export": Export(archive=False), "torchscript": ToTorchScript(), "torch": ToTorchDialect(), "stablehlo": ToStableHLO(),
          "mhlo": ToMHLO(),
          "verify": Verify(points=2)}  # fmt: skip
SCALES = (0.3, 0.5, 0.7, 1.1, 1.5, 1.7, 2, 2.3, 3, 4, 5, 7, 49)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8, torch.bfloat16])
@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("mode", ["nearest", "nearest-exact"])
def test_nearest_takes_the_elements_that_eager_takes(mode: str, rank: int, dtype: torch.dtype) -> None:
    """Some of these scales and sizes round differently in another precision, or when divided in another order."""
    ours = resizing.nearest if mode == "nearest" else resizing.nearest_exact
    lead = [1] * (rank - 1)
    for size in (1, 2, 3, 7, 8, 29):
        given = torch.arange(size).to(dtype).reshape(1, 1, *lead, size)
        for wanted in (1, 2, 3, 5, 8, 14, 16, 41, 47, 55):
            assert torch.equal(ours(given, [*lead, wanted]), interpolate(given, size=[*lead, wanted], mode=mode)), (size, wanted)
        for scale in SCALES:
            if int(size * scale):
                expected = interpolate(given, scale_factor=[*map(float, lead), scale], mode=mode)
                assert torch.equal(ours(given, expected.shape[2:], *map(float, lead), scale), expected), (size, scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8])
@pytest.mark.parametrize(("mode", "antialias", "ours"), [
    ("bilinear", False, resizing.linear), ("bicubic", False, resizing.bicubic),
    ("bilinear", True, resizing.bilinear_antialiased), ("bicubic", True, resizing.bicubic_antialiased)])  # fmt: skip
@pytest.mark.parametrize("align_corners", [False, True])
def test_weights_are_those_of_eager(align_corners: bool, mode: str, antialias: bool, ours: Any, dtype: torch.dtype) -> None:
    numbers = torch.rand(2, 3, 7, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    given = (numbers * 255).to(dtype) if dtype == torch.uint8 else numbers.to(dtype)
    settings: Any = {"mode": mode, "antialias": antialias, "align_corners": align_corners}
    for size in ((3, 4), (14, 5), (7, 9), (20, 30), (2, 18), *([(1, 1)] if dtype != torch.uint8 else [])):  # eager's fails for bytes
        torch.testing.assert_close(ours(given, size, align_corners), interpolate(given, size=size, **settings))
    for scales in ((2, 3), (0.5, 0.3), (1.3, 0.77), (1, 2)):
        expected = interpolate(given, scale_factor=scales, **settings)
        torch.testing.assert_close(ours(given, expected.shape[2:], align_corners, *scales), expected)


def test_an_infinite_element_stays_in_the_windows_that_hold_it() -> None:
    given = torch.zeros(1, 1, 1, 12)
    given[..., 3] = float("inf")
    expected = interpolate(given, size=(1, 5), mode="bilinear", antialias=True)
    assert torch.equal(resizing.bilinear_antialiased(given, (1, 5), False).isfinite(), expected.isfinite())


class Nearest(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        height, width = x.shape[2:]
        yield interpolate(x, scale_factor=2)
        yield interpolate(x, scale_factor=(3, 1), mode="nearest-exact")
        yield interpolate(x, size=(5, 16))
        yield interpolate(x, size=(2 * width, height), mode="nearest-exact")
        yield interpolate(x[:, 0], scale_factor=4)
        yield interpolate(x[:, :, :, :, None], size=(3, 4, 2))
        yield interpolate(x[..., :1].expand(*x.shape[:3], 8), size=(height, 12))


class Smooth(nn.Module):
    def forward(self, x: torch.Tensor) -> Any:
        height, width = x.shape[2:]
        yield interpolate(x, size=(width, height), mode="bilinear", align_corners=True)
        yield interpolate(x, scale_factor=2, mode="bicubic")
        yield interpolate(x, size=(width, 3), mode="bicubic", antialias=True)
        yield interpolate(x, scale_factor=2, mode="bilinear", antialias=True, align_corners=True)
        yield interpolate(x[:, 0], size=(width,), mode="linear", align_corners=True)
        yield interpolate(x, size=(width, 3), mode="area")


class Listed(nn.Module):
    """What a generator module yields, as a list."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: torch.Tensor) -> Any:
        return list(self.module(x))


def build(name: str) -> nn.Module:
    return Listed(globals()[name]())


@pytest.mark.parametrize("name", ["Nearest", "Smooth"])
def test_sizes_stay_dynamic_down_to_one(name: str, tmp_path: Path) -> None:
    model = Model(name, {"_target_": f"{__name__}.build", "name": name}, {"x": Input("float32", ("b", 2, "h", "w"))},
                  {"b": Symbol(1, 3), "h": Symbol(1, 9), "w": Symbol(1, 9)})  # fmt: skip
    result = pipeline.run(Job(model, STAGES), tmp_path)
    assert (result.outcome, result.problems) == ("ok", ())
