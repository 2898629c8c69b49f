"""A model's keys `quantization` and `dtype`: what is quantized, refused, packed, and how it reaches MHLO."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.export import Dim

import shapeline
from flows.report import quantization
from lowering import pipeline
from lowering.eager import packed_weights, quantized
from lowering.eager.module import instantiate
from lowering.errors import LoadError, Unsupported
from lowering.job import Job
from lowering.level import Level
from lowering.model import Input, Model, Quantization, Symbol
from lowering.model_checks import find_problems
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from lowering.stages.verify import Verify

STAGES = {"export": Export(archive=False), "torchscript": ToTorchScript(), "torch": ToTorchDialect(), "stablehlo": ToStableHLO(),
          "mhlo": ToMHLO(),
          "verify": Verify(points=4, values=())}  # fmt: skip
needs_torchao = pytest.mark.skipif(importlib.util.find_spec("torchao") is None,
                                   reason="torchao is optional: pip install -e .[quantization]")


class Words(torch.nn.Module):
    """An embedding and two linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.up, self.down = torch.nn.Embedding(50, 64), torch.nn.Linear(64, 128), torch.nn.Linear(128, 32)

    def forward(self, ids: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
        return self.down(torch.nn.functional.gelu(self.up(self.words(ids) * scale)))


def declare(**keys: Any) -> Model:
    inputs = {"ids": Input("int64", ("batch", "seq"), {"randint": [0, 50]}), "scale": Input("float32", ("batch", 1, 1))}
    return Model("words", {"_target_": f"{__name__}.Words"}, inputs, {"batch": Symbol(max=16), "seq": Symbol(max=32)}, **keys)


def lower(model: Model, folder: Path) -> tuple[Any, str]:
    """Return the result of the job, and its MHLO without assertions."""
    folder.mkdir()
    result = pipeline.run(Job(model, STAGES), folder)
    assert result.outcome == "ok", [str(problem) for problem in result.problems]
    lines = next(folder.glob(f"*-mhlo{Level.MHLO.suffix}")).read_text().splitlines()
    return result, "\n".join(line for line in lines if "shape_assertion" not in line)


def test_four_bit_weights_are_packed_in_pairs_and_come_back() -> None:
    values = torch.randint(-8, 8, (6, 8, 3), generator=torch.Generator().manual_seed(0)).to(torch.int8)
    packed = packed_weights.pack_pairs(values)
    assert (packed.dtype, packed.shape) == (torch.uint8, (6, 4, 3))
    assert torch.equal(packed_weights.unpack_pairs(packed), values.int())
    scale = torch.rand(6, 2, 3)
    assert torch.equal(packed_weights.dequantize(packed, scale, torch.float32), values * scale.repeat_interleave(4, 1))


def test_keys_that_do_not_fit_are_reported_together() -> None:
    wrong = declare(dtype="int8", mode="training", loss="loss", quantization=Quantization(group_size=0, calibration="none.safetensors"))
    said = [str(problem) for problem in find_problems(wrong)]
    for place, cause in (("model.dtype", "cannot be converted to 'int8'"), ("model.quantization", "neither a scheme nor a config"),
                         ("model.quantization.group_size", "is 0"), ("model.quantization.calibration", "not used with config"),
                         ("model.quantization", "is for inference")):  # fmt: skip
        assert any(line.startswith(place) and cause in line for line in said), (place, said)


def test_a_missing_torchao_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(LoadError, match=r"models\.words\.quantization: needs torchao.*shapeline\[quantization\]"):
        instantiate(declare(quantization=Quantization("int8_weight_only")))


@needs_torchao
def test_a_target_that_makes_no_config_is_refused() -> None:
    with pytest.raises(LoadError, match=r"quantization\.config: made a Fraction, which is no config of torchao"):
        instantiate(declare(quantization=Quantization(config={"_target_": "fractions.Fraction"})))


@needs_torchao
def test_a_pattern_that_matches_no_module_is_listed() -> None:
    chosen = Quantization("int8_weight_only", skip=("lm_head", "down"))
    assert quantized.list_unmatched(instantiate(declare(quantization=chosen)), chosen) == ["lm_head"]


def test_layers_of_eager_quantization_are_refused_by_name() -> None:
    module = torch.nn.Sequential(torch.nn.Linear(16, 8), torch.nn.ReLU()).eval()
    quantized = torch.ao.quantization.quantize_dynamic(module, {torch.nn.Linear})
    with pytest.raises(Unsupported, match=r"^0 \(Linear\): holds its weight in an object packed for a kernel of torch \(.*pt2e_dynamic"):
        shapeline.lower(quantized, (torch.randn(5, 16),), dynamic_shapes=({0: Dim("batch", max=10)},))


def test_one_key_converts_module_and_inputs_to_bfloat16(tmp_path: Path) -> None:
    model = declare(dtype="bfloat16")
    assert model.leaves["scale"].dtype == "bfloat16" and model.leaves["ids"].dtype == "int64"
    result, text = lower(model, tmp_path / "bfloat16")
    assert list(result.verify["quantization"]["weights"]) == ["bfloat16"]
    assert 30 < result.verify["quantization"]["signal_to_noise"]["output"] < 70
    (row,) = [line for line in quantization.render_lines([result]) if line.startswith("| words--default")]
    assert "bfloat16" in row
    assert "bf16" in text and "tensor<128x64xf32>" not in text


@needs_torchao
def test_schemes_reach_mhlo_with_small_weights_and_integer_dots(tmp_path: Path) -> None:
    small = {"int8_weight_only": "tensor<128x64xi8>", "int8_dynamic": "tensor<128x64xi8>", "int4_weight_only": "tensor<128x32xui8>",
             "float8_weight_only": "tensor<128x64xf8E4M3FN>", "pt2e_static": "tensor<128x64xi8>"}  # fmt: skip
    for scheme, stored in small.items():
        modules = ("Linear", "Embedding") if scheme == "int4_weight_only" else ("Linear",)
        result, text = lower(declare(quantization=Quantization(scheme, modules=modules)), tmp_path / scheme)  # type: ignore[arg-type]
        entry = next(line for line in text.splitlines() if "@main" in line)
        assert stored in entry and "tensor<128x64xf32>" not in entry and "custom_call" not in text, (scheme, entry)
        assert text.count("xi8>) -> tensor<?x?x128xi32>") == (scheme in ("int8_dynamic", "pt2e_static")), scheme
        block = result.verify["quantization"]
        assert block["signal_to_noise"]["output"] > (10 if scheme == "int4_weight_only" else 20), (scheme, block)
        if scheme == "int4_weight_only":  # half a byte each, and a scale of two bytes for 32
            assert sum(block["weights"].values()) <= 0.16 * 4 * sum(weight.numel() for weight in Words().parameters())
        kept = [remark.message for remark in result.warnings if remark.code == "weights_not_quantized"]
        assert bool(kept) == (scheme != "int4_weight_only") and all("words.weight" in message for message in kept)


@needs_torchao
def test_calibration_on_a_file_decides_the_scales(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    given = {"0/ids": torch.zeros(3, 5, dtype=torch.int64), "0/scale": torch.full((3, 1, 1), 100.0)}
    save_file(given, tmp_path / "data.safetensors")
    wide = Quantization("pt2e_static", calibration=str(tmp_path / "data.safetensors"))
    scales = [next(node.args[1] for node in module.graph.nodes if "quantize_per_tensor" in str(node.target))  # type: ignore[union-attr]
              for module in (instantiate(declare(quantization=wide)), instantiate(declare(quantization=Quantization("pt2e_static"))))]
    assert scales[0] > 10 * scales[1]
    save_file({"0/ids": given["0/ids"]}, tmp_path / "data.safetensors")
    with pytest.raises(LoadError, match="set '0' has no tensor '0/scale'"):
        instantiate(declare(quantization=wide))
