"""Programs with collectives are verified on several devices, against as many processes of torch.distributed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch.distributed as dist

from lowering.errors import Mismatch
from lowering.ir import mlir
from lowering.level import Level, Program
from lowering.model import Input, Model, Symbol
from lowering.numerics import ranks
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from lowering.stages.verify import Verify
from tests.unit.models import tiny_bert
from tests.unit.stages.exports import Notes


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    model = Model("exchanging", {"_target_": "tests.unit.models.exchanging.build"}, {"x": Input("float32", ("n", 3))}, {"n": Symbol(1, 9)})
    yield tiny_bert.lower(Program(Level.MODEL, model), Export(), ToTorchScript(), ToTorchDialect(),
                          ToStableHLO(mesh={"tp": 2}, groups={"0": ["tp"]}), ToMHLO())
    dist.destroy_process_group()


def test_a_wrong_collective_is_a_mismatch_and_right_ones_agree_on_every_device(program: Program) -> None:
    text = mlir.text(program.ir, elide=None)
    assert text.count("mhlo.maximum") == 1
    wrong = mlir.parse(text.replace("mhlo.maximum", "mhlo.minimum"), mlir.create_hlo_context())
    notes = Notes()
    with pytest.raises(Mismatch) as raised:
        Verify(points=1, values=(), steps=0).apply(replace(program, ir=wrong), notes)
    assert {problem.place.partition(" of ")[0] for problem in raised.value.problems} == (
        {"output 'most on device 0'", "output 'most on device 1'"})
    assert {"verified_on_devices", "collectives_not_run"} <= set(notes.said)


def test_the_rank_of_a_device_is_its_place_in_its_group(program: Program) -> None:
    assert ranks.list_ranks(program.ir) == [0, 1]
    text = mlir.text(program.ir, elide=None).replace("dense<[[0, 1]]> : tensor<1x2xi64>", "dense<[[0, 2], [1, 3]]> : tensor<2x2xi64>")
    assert ranks.list_ranks(mlir.parse(text, mlir.create_hlo_context())) == [0, 0, 1, 1]
