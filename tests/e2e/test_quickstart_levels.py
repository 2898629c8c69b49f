"""The levels of real models do not depend on the example they were traced with, and TorchScript computes what eager does."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

from lowering.eager import inputs
from lowering.eager.module import instantiate
from lowering.model import Symbol
from lowering.numerics.comparison import compare, find_tolerance
from lowering.numerics.running.runner import Eager
from lowering.torchscript.text import parse
from tests.e2e.burned_in import burned_in
from tests.e2e.quickstart import IDS, Lowered

STAGES = ("export", "torchscript", "torch", "stablehlo", "mhlo")


@pytest.mark.parametrize("line", [
    "view: \"f32[s77, 13]\" = torch.ops.aten.view.default(x, [s77, 13])", "%v1 : int = prim::Constant[value=13]()",
    "%int13 = torch.constant.int 13", "%c = stablehlo.constant dense<13> : tensor<i64>",
    "%0 = mhlo.constant dense<[1, 13]> : tensor<2xi32>",
    "%1 = mhlo.reshape %0 : (tensor<?xf32>) -> tensor<?x13xf32>", "func.func @main(%arg0: tensor<13x4xf32>)",
    "%2 : Float(*, 13) = aten::relu(%1)", "!torch.vtensor<[?,13],f32>", "limit_indices = array<i64: 13>",
])
def test_a_burned_in_size_is_detected_at_every_level(line: str) -> None:
    assert burned_in(f"{line}\n", {13}) == [line]


@pytest.mark.parametrize("line",
                         ["%13 = mhlo.add %arg13, %0 : tensor<?xf32>", "x  # lines of model.py: 13-14=13", "dense<1.3e+13> : tensor<f32>",
                          "return (%v13)", "// Code lines: 13=13"])
def test_names_and_comments_are_no_sizes(line: str) -> None:
    assert burned_in(f"{line}\n", {13}) == []


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("job", IDS)
def test_no_example_size_is_burned_in(job: str, stage: str, quickstart: Mapping[str, Lowered]) -> None:
    done = quickstart[job]
    model = done.job.model
    sizes = {dim.at(done.examples) for name in model.symbols for _, _, dim in model.uses(name)} | {
        size // model.symbols[name].multiple_of for name, size in done.examples.items()}
    assert burned_in(done.text(stage), {size for size in sizes if size > 8}) == []  # smaller ones are ranks and dims of any model


@pytest.mark.parametrize("job", IDS)
def test_torchscript_is_read_back_as_it_was_written(job: str, quickstart: Mapping[str, Lowered]) -> None:
    text = quickstart[job].text("torchscript")
    assert str(parse(text)) == text


@pytest.mark.parametrize("job", IDS)
def test_torchscript_computes_what_eager_does_away_from_the_example(job: str, quickstart: Mapping[str, Lowered]) -> None:
    done = quickstart[job]
    model, signature = done.job.model, done.signature
    (file,) = done.folder.glob("*-torchscript.pt")
    script = torch.jit.load(str(file))
    eager = Eager(model, instantiate(model), signature)
    points = [{name: _size(symbol, which) for name, symbol in model.symbols.items()} for which in (0, 1)]
    assert all(len({points[0][name], points[1][name], done.examples[name]}) == 3 for name in model.symbols)
    for point in points:
        given = inputs.make(model, point)
        with torch.no_grad():
            got = script(*(given[argument.name] for argument in signature.inputs))
        for result, one, want in zip(signature.returned, got if isinstance(got, tuple) else (got,), eager(given), strict=True):
            found = compare(torch.as_tensor(one), want, find_tolerance(want.dtype, model.tolerances, want))
            assert found.agrees, f"{result.name} at {point}: {found.detail}"


def _size(symbol: Symbol, which: int) -> int:
    """One of the two smallest sizes above 1 that the symbol admits and that it was not traced with."""
    admitted = (size for size in range(max(2, symbol.min), 1 << 20) if symbol.admits(size) and size != symbol.example)
    return [next(admitted), next(admitted)][which]
