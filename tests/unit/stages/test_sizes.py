"""Sizes that are no polynomials of the symbols go through all levels, and are right where rounding matters."""

from __future__ import annotations

import pytest
import torch

from lowering.errors import Refused
from lowering.level import Level, Program
from lowering.model import Input, Model, Symbol
from lowering.numerics.running.runner import make_runner
from lowering.numerics.running.xla import Xla
from lowering.sizes.evaluation import evaluate
from lowering.stage import Silent
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from tests.unit.models import size_models


def lowered(name: str, dims: tuple[int | str | None, ...], symbols: dict[str, Symbol]) -> Program:
    factory = {"_target_": f"tests.unit.models.size_models.{name}"}
    program = Program(Level.MODEL, Model(name.lower(), factory, {"x": Input("float32", dims)}, symbols))
    for stage in (Export(), ToTorchScript(), ToTorchDialect(), ToStableHLO(), ToMHLO()):
        assert not stage.requires(program)
        program = stage.apply(program, Silent())
        assert not stage.ensures(program)
    return program


@pytest.mark.parametrize(("name", "dims", "symbols", "sizes"), [
    ("Windows", (2, 3, None, 14), {}, [(20, 14), (15, 14), (22, 14)]),
    ("SamePooling", (2, 3, None, None), {}, [(14, 22), (16, 20), (26, 10)]),
    ("FloatSizes", (2, 3, "h", "w"), {"h": Symbol(8, 60), "w": Symbol(8, 60)}, [(9, 10), (10, 11), (60, 45), (16, 25)]),
])
def test_sizes_are_eagers(name: str, dims: tuple[int | str | None, ...], symbols: dict[str, Symbol], sizes: list[tuple[int, int]]) -> None:
    program = lowered(name, dims, symbols)
    run, eager = make_runner(program, Xla()), getattr(size_models, name)()
    ran = 0
    for height, width in sizes:
        x = torch.randn(2, 3, height, width)
        dims_here = program.signature.inputs[0].dims[2:]
        names = {dim: size for dim, size in zip(dims_here, (height, width), strict=True) if isinstance(dim, str)}
        broken = [guard for guard in program.signature.guards if not evaluate(guard, names)]
        if broken:
            with pytest.raises(Refused):
                run({"x": x})
            continue
        ran += 1
        for got, wanted in zip(run({"x": x}), eager(x), strict=True):
            torch.testing.assert_close(got, wanted)
    assert ran
