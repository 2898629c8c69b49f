"""Every model in configs/model: its form, its sizes, its eager run across its ranges, and its dims in the exported graph."""

from __future__ import annotations

from contextlib import nullcontext
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch._subclasses import FakeTensorMode

from flows.config import entries
from lowering.eager import inputs
from lowering.eager.arguments import assemble
from lowering.eager.module import instantiate, run_eager
from lowering.eager.training import name_loss
from lowering.fx.dynamic_shapes import build_dynamic_shapes
from lowering.fx.names import input_values
from lowering.fx.tracing.assumptions import assert_usual_sizes
from lowering.model import Model, Symbol
from lowering.model_checks import find_problems
from lowering.sizes.dims import Affine

CONFIGS = Path(__file__).parents[2] / "configs"
FILES = {path.stem: yaml.safe_load(path.read_text()) for path in (CONFIGS / "model").glob("*.yaml")}
NAMES = sorted(f"{file}:{entry}" if entry else file for file, data in FILES.items() for entry in data.get("entries", [""]))
SIZED = {name for name, data in FILES.items() if (data.get("stages") or {}).get("export", {}).get("data_sizes") == "capacity"}  # by data
FULL = {name for name in NAMES if name.endswith("_full")}

# Parameters as published with each checkpoint.
PUBLISHED = {
    "bert_full": 109_482_240,
    "gpt2_full": 124_439_808,
    "llama_full": 1_235_814_400,
    "resnet_full": 25_557_032,
    "t5_full": 60_506_624,
    "vit_full": 86_567_656,
    "whisper_full": 37_760_640,
}


@cache
def model(name: str) -> Model:
    """The model of a file, or of one of its entries."""
    name, _, entry = name.partition(":")
    with initialize_config_dir(str(CONFIGS), version_base=None):
        config = OmegaConf.to_container(compose(overrides=[f"+model@{name}={name}"]), resolve=True)
    assert isinstance(config, dict)
    return next(found for found, _ in entries.build(name, {**config[name], "stages": None}) if found.entry == entry)


def read_weights(file: str) -> str:
    """The key `weights` of a file or of the one that it is made from; read here, since every worker loads this module to name its tests."""
    bases = (base for base in FILES[file].get("defaults", ()) if base != "_self_")
    return str(FILES[file].get("weights") or next(map(read_weights, bases), "random"))


# what a test can build and run: neither published sizes nor models without weights
QUICK = [name for name in NAMES if name not in FULL and read_weights(name.partition(":")[0]) == "random"]

DEFERRED = {"llama_decode"}  # models with guards that torch can prove for no range
# Models with a result whose size only the data tell, or that is a count.
WITHOUT_BATCH = {"custom_ops", "llama_static", "llama_generate:prefill", "llama_generate:decode"}


@cache
def module(name: str) -> torch.nn.Module:
    return instantiate(model(name))


def points(declared: Model) -> list[dict[str, int]]:
    """The least sizes, the traced ones, and larger ones; nowhere more than a quick run bears."""
    def large(name: str, symbol: Symbol) -> int:
        bearable = 4 if name == "batch" else 130
        return symbol.largest(bearable if symbol.max is None else min(bearable, symbol.max))

    least = {name: symbol.largest(max(1, symbol.min) + symbol.multiple_of - 1) for name, symbol in declared.symbols.items()}
    return [least, declared.examples(), {name: large(name, symbol) for name, symbol in declared.symbols.items()}]


@pytest.mark.parametrize("name", NAMES)
def test_the_declaration_is_sound(name: str) -> None:
    assert find_problems(model(name)) == []
    for sizes in points(model(name)):
        assert all(model(name).symbols[symbol].admits(size) for symbol, size in sizes.items())


@pytest.mark.parametrize("name", QUICK)
def test_eager_runs_across_the_ranges(name: str) -> None:
    for sizes in points(model(name)):
        results = run_eager(module(name), model(name), inputs.make(model(name), sizes)).tensors
        assert results
        assert all(value.isfinite().all() for value in results.values())
        if name in SIZED:
            continue
        counted = any if name in WITHOUT_BATCH else all
        losses = {name_loss(model(name), results)} if model(name).mode == "training" else set()
        assert counted(value.shape[:1] == (sizes["batch"],) for result, value in results.items() if result not in losses)


@pytest.mark.parametrize("name", QUICK)
def test_every_input_counts(name: str) -> None:
    made = inputs.make(model(name), model(name).examples())
    copies = {name: value.clone() for name, value in made.items()}  # forward may write to its arguments
    before = run_eager(module(name), model(name), copies).tensors
    for changed in made:
        other = {name: value.clone() for name, value in made.items()}
        other[changed] = made[changed].roll(1, 0) if made[changed].dim() and made[changed].any() else made[changed] + 1
        after = run_eager(module(name), model(name), other).tensors
        assert any(not torch.equal(after[key], before[key]) for key in before), changed


@pytest.mark.parametrize("name", QUICK)
def test_the_exported_graph_promises_the_declared_ranges(name: str) -> None:
    declared = model(name)
    example = inputs.make(declared, declared.examples())
    arguments = assemble(declared, module(name), example)
    with assert_usual_sizes() if name in SIZED else nullcontext():
        program = torch.export.export(module(name), (), arguments, dynamic_shapes=build_dynamic_shapes(declared, arguments), strict=False,
                                      prefer_deferred_runtime_asserts_over_guards=name in DEFERRED)
    values = input_values(program, declared)
    for argument, wanted in declared.leaves.items():
        for size, dim in zip(values[argument].shape, wanted.dims(), strict=True):
            if not isinstance(dim, Affine):
                assert size == dim
                continue
            symbol = declared.symbols[dim.symbol]
            assert isinstance(size, torch.SymInt), f"{argument}: {dim} was burned in as {size}"
            bounds = program.range_constraints[size.node.expr]
            assert symbol.max is not None
            least = symbol.largest(symbol.min + symbol.multiple_of - 1)
            assert (bounds.lower, bounds.upper) == (dim.at({dim.symbol: least}), dim.at({dim.symbol: symbol.largest(symbol.max)}))


@pytest.mark.parametrize("name", sorted(FULL))
def test_a_full_model_has_the_published_number_of_parameters(name: str) -> None:
    with FakeTensorMode():
        built: Any = instantiate(model(name))
    assert sum(parameter.numel() for parameter in built.parameters()) == PUBLISHED[name]
