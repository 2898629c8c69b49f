"""The matrix of levels and consumers: who agrees with eager, who refuses, who is not installed, and who is wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, get_args

import pytest
import torch

from lowering.errors import Mismatch, StageFailed
from lowering.ir import mlir
from lowering.level import Level, Program
from lowering.model import Input, Model, Symbol
from lowering.numerics.consumers import WORDS, Pair, Word
from lowering.numerics.coverage import special_values, weight_values
from lowering.numerics.running import iree, libtorch
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from lowering.stages.verify import Verify
from tests.toys import Heard
from tests.unit.models import tiny_bert
from tests.unit.models.scaled_model import hlo, program

MLP = Model("mlp", {"_target_": "lowering.sources.mlp.MLP", "width_in": 16, "width_hidden": 32, "width_out": 8},
            {"features": Input("float32", ("batch", 16))}, {"batch": Symbol(1, 64)})
LEVELS = ("stablehlo:interpreter", "stablehlo:iree", "mhlo")


def whole(stablehlo: str) -> Program:
    """The scaled model with a StableHLO level above its MHLO."""
    made = program()
    above = replace(made, level=Level.STABLEHLO, ir=mlir.parse(stablehlo, mlir.create_torch_context()))
    return replace(made, above=above)


def cells(note: Heard) -> dict[str, tuple[str, int, str]]:
    return {f"{cell['level']}:{cell['consumer']}": (cell["outcome"], cell["points"], cell["message"])
            for cell in note.reports["verify"]["consumers"]}


@pytest.fixture
def without_iree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iree, "is_available", lambda: False)


@pytest.mark.usefixtures("without_iree")
def test_a_consumer_that_is_not_installed_is_skipped_with_the_command_that_installs_it() -> None:
    note = Heard()
    verify = Verify(platforms=("cpu",), levels=LEVELS, values=())
    made = whole(hlo("stablehlo"))
    assert not verify.requires(made)
    verify.apply(made, note)
    found = cells(note)
    assert found["stablehlo:interpreter"] == ("agrees", 2, "") and found["mhlo:xla"][0] == "agrees"
    assert found["stablehlo:iree"] == ("missing", 0, iree.INSTALL) and "consumer_missing" in note.codes
    assert [problem.fix for problem in Verify(levels=("stablehlo:iree",)).requires(made)] == [iree.INSTALL]


def test_libtorch_runs_the_deployable_module_without_python(monkeypatch: pytest.MonkeyPatch) -> None:
    lowered: Program = Program(Level.MODEL, MLP)
    for stage in (Export(), ToTorchScript(), ToTorchDialect(), ToStableHLO(), ToMHLO()):
        lowered = stage.apply(lowered, Heard())
    verify, note = Verify(platforms=("cpu",), levels=("torchscript:libtorch",), values=(), points=2), Heard()
    verify.apply(lowered, note)
    assert cells(note) == {"torchscript:libtorch": ("agrees", 2, "")}
    script = lowered.at(Level.TORCHSCRIPT)
    assert script is not None
    with pytest.raises(StageFailed, match="libtorch: cannot run: "):
        libtorch.Libtorch(script).run([*lowered.weights.values(), torch.zeros(2, 7)])
    monkeypatch.setenv("CXX", "no-such-compiler")
    verify, note = Verify(platforms=("cpu",), levels=("torchscript:libtorch", "mhlo"), values=(), points=2), Heard()
    verify.apply(lowered, note)
    assert cells(note)["torchscript:libtorch"] == ("missing", 0, libtorch.INSTALL) and "consumer_missing" in note.codes


@pytest.mark.usefixtures("without_iree")
def test_a_consumer_that_computes_other_numbers_fails_the_job() -> None:
    wrong = hlo("stablehlo").replace("stablehlo.maximum", "stablehlo.minimum")
    assert wrong != hlo("stablehlo")
    note = Heard()
    with pytest.raises(Mismatch, match="output 'logits' of stablehlo:interpreter at batch="):
        Verify(platforms=("cpu",), levels=LEVELS, values=()).apply(whole(wrong), note)
    assert cells(note)["stablehlo:interpreter"][0] == "differs" and cells(note)["mhlo:xla"][0] == "agrees"


@pytest.mark.usefixtures("without_iree")
def test_what_a_consumer_does_not_take_is_data() -> None:
    note = Heard()
    Verify(platforms=("cpu",), levels=LEVELS, values=(), interpreted_products=1, points=1).apply(tiny_bert.mhlo_level(), note)
    outcome, points, message = cells(note)["stablehlo:interpreter"]
    assert (outcome, points) == ("refused", 0) and "raise stages.verify.interpreted_products" in message
    assert "level_not_run" in note.codes


@pytest.mark.skipif(not iree.is_available(), reason=f"IREE is optional: {iree.INSTALL}")
def test_iree_runs_stablehlo_and_the_torch_level() -> None:
    note = Heard()
    Verify(platforms=("cpu",), levels=("torch:iree", "stablehlo:iree"), values=(), points=2).apply(tiny_bert.mhlo_level(), note)
    assert {name: outcome for name, (outcome, _, _) in cells(note).items()} == {"torch:iree": "agrees", "stablehlo:iree": "agrees"}


def test_pairs_are_written_as_level_and_consumer() -> None:
    assert all(str(Pair.read(word)) == word for word in WORDS)
    assert set(get_args(Word)) == {*WORDS, *(word.partition(":")[0] for word in WORDS)}
    assert special_values.SETS[-1] == weight_values.WORD
    assert str(Pair.read("stablehlo")) == "stablehlo:xla" and Pair.read("mhlo:iree") is None and Pair.read("mlir") is None
    verify: Any = Verify(levels=("mhlo:iree",))
    assert "stablehlo:interpreter" in verify.requires(program())[0].fix
