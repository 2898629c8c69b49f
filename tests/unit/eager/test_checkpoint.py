"""Weights that are mapped from safetensors: the same program and numbers, nothing read before it is needed, nothing missing made up."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from lowering import pipeline
from lowering.eager import checkpoint, inputs
from lowering.eager.module import instantiate
from lowering.errors import LoadError
from lowering.job import Job
from lowering.level import Level, Program
from lowering.model import Input, Model, Symbol
from lowering.model_checks import find_problems
from lowering.stage import Silent
from lowering.stages.export import Export
from lowering.stages.torchscript import ToTorchScript

MLP = Model("mlp", {"_target_": "lowering.sources.mlp.MLP", "width_in": 16, "width_hidden": 32, "width_out": 8},
            {"features": Input("float32", ("batch", 16))}, {"batch": Symbol(1, 64)}, seed=3)
BERT = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
TIED = Model("tied",
             {"_target_": "lowering.sources.huggingface.build", "config": "BertConfig", "architecture": "BertForMaskedLM", "kwargs": BERT},
             {"input_ids": Input("int64", ("batch", "seq"), {"randint": [0, 64]})}, {"batch": Symbol(1, 8), "seq": Symbol(1, 64)})


def saved(model: Model, folder: Path, *, drop: str = "", add: str = "", dtype: torch.dtype | None = None) -> Model:
    """`model` with the weights of its seed in two files of `folder`, to be mapped."""
    state = {name: tensor.clone().to(dtype or tensor.dtype) for name, tensor in instantiate(model).state_dict().items() if name != drop}
    names = sorted(state)
    for number, part in enumerate((names[::2], names[1::2])):
        save_file({name: state[name] for name in part} | ({add: torch.zeros(1)} if add and number else {}),
                  folder / f"part{number}.safetensors")
    return replace(model, weights="lazy", checkpoint=str(folder), seed=99)


@pytest.mark.parametrize("model", [MLP, TIED], ids=["mlp", "tied"])
def test_the_module_is_the_one_that_was_saved(model: Model, tmp_path: Path) -> None:
    lazy = saved(model, tmp_path)
    one, other = instantiate(model), instantiate(lazy)
    given = inputs.make(model, model.examples())
    torch.testing.assert_close(list(other(**given).values()) if isinstance(other(**given), dict) else other(**given),
                               list(one(**given).values()) if isinstance(one(**given), dict) else one(**given))
    assert len(list(other.parameters())) == len(list(one.parameters()))  # what was tied still is


def test_one_name_of_a_tied_weight_is_enough(tmp_path: Path) -> None:
    lazy = saved(TIED, tmp_path, drop="cls.predictions.decoder.weight")
    module = instantiate(lazy)
    assert module.get_parameter("cls.predictions.decoder.weight") is module.get_parameter("bert.embeddings.word_embeddings.weight")


def test_a_missing_weight_is_named_and_not_made_up(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match=r"weight 'up.bias'.*is not in .*did you mean 'up.bais'"):
        instantiate(saved(MLP, tmp_path, drop="up.bias", add="up.bais"))


def test_another_dtype_is_refused_rather_than_converted(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="is bfloat16 in the file and float32 in the module"):
        instantiate(saved(MLP, tmp_path, dtype=torch.bfloat16))


def test_another_shape_is_refused(tmp_path: Path) -> None:
    lazy = saved(MLP, tmp_path)
    with pytest.raises(LoadError, match=r"has shape \[32, 16\] in the file and \[64, 16\] in the module"):
        instantiate(replace(lazy, factory={**MLP.factory, "width_hidden": 64}))


def test_a_file_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(b"no header")
    with pytest.raises(LoadError, match="cannot be read as safetensors"):
        checkpoint.locate_tensors(tmp_path)
    (tmp_path / "nothing").mkdir()
    with pytest.raises(LoadError, match=r"has no \*.safetensors file"):
        checkpoint.locate_tensors(tmp_path / "nothing")


def test_the_declaration_names_the_folder_of_the_weights(tmp_path: Path) -> None:
    assert "no checkpoint is given" in str(find_problems(replace(MLP, weights="lazy"))[0])
    assert "is not used with weights: random" in str(find_problems(replace(MLP, checkpoint=str(tmp_path)))[0])
    assert "does not exist" in str(find_problems(replace(MLP, weights="lazy", checkpoint=str(tmp_path / "none")))[0])
    assert find_problems(replace(MLP, weights="lazy", checkpoint=str(tmp_path))) == []


def test_mapped_weights_are_not_read(tmp_path: Path) -> None:
    """256 MiB of weights in a sparse file: neither building nor exporting nor lowering touches their pages."""
    size = 8192
    head = json.dumps({"weight": {"dtype": "F32", "shape": [size, size], "data_offsets": [0, 4 * size * size]},
                       "bias": {"dtype": "F32", "shape": [size], "data_offsets": [4 * size * size, 4 * size * size + 4 * size]}}).encode()
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.write(len(head).to_bytes(8, "little") + head)
        file.truncate(8 + len(head) + 4 * size * size + 4 * size)
    model = Model("linear", {"_target_": "torch.nn.Linear", "in_features": size, "out_features": size},
                  {"input": Input("float32", ("batch", size))}, {"batch": Symbol(1, 8)}, weights="lazy", checkpoint=str(tmp_path))
    Export().apply(Program(Level.MODEL, MLP), Silent())  # what the first export loads is not the weights'
    before = resident()
    script = ToTorchScript().apply(Export().apply(Program(Level.MODEL, model), Silent()), Silent())
    assert script.weights["weight"].shape == (size, size)
    assert resident() - before < 100 << 20


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def test_a_job_leaves_no_copy_of_the_weights(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "job").mkdir()
    lazy = saved(MLP, tmp_path / "weights", add="head.weight")
    result = pipeline.run(Job(lazy, {"export": Export(), "torchscript": ToTorchScript()}), tmp_path / "job", store=tmp_path / "store")
    assert result.outcome == "ok"
    assert {warning.code for warning in result.warnings} >= {"weights_lazy", "checkpoint_unused"}
    assert sorted(path.name for path in (tmp_path / "job").glob("0*")) == ["01-export.py", "01-export.trace.log", "02-torchscript.ts"]
    assert not list((tmp_path / "store").rglob("*.safetensors"))
