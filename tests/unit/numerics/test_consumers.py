"""The matrix of levels and consumers: who agrees with eager, who refuses, who is not installed, and who is wrong."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lowering.errors import Mismatch
from lowering.ir import mlir
from lowering.level import Level, Program
from lowering.numerics import iree
from lowering.numerics.consumers import WORDS, Pair
from lowering.stages.verify import Verify
from tests.toys import Heard
from tests.unit.models import tiny_bert
from tests.unit.models.scaled_model import hlo, program

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
    monkeypatch.setattr(iree, "available", lambda: False)


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


@pytest.mark.skipif(not iree.available(), reason=f"IREE is optional: {iree.INSTALL}")
def test_iree_runs_stablehlo_and_the_torch_level() -> None:
    note = Heard()
    Verify(platforms=("cpu",), levels=("torch:iree", "stablehlo:iree"), values=(), points=2).apply(tiny_bert.mhlo_level(), note)
    assert {name: outcome for name, (outcome, _, _) in cells(note).items()} == {"torch:iree": "agrees", "stablehlo:iree": "agrees"}


def test_pairs_are_written_as_level_and_consumer() -> None:
    assert all(str(Pair.read(word)) == word for word in WORDS)
    assert str(Pair.read("stablehlo")) == "stablehlo:xla" and Pair.read("mhlo:iree") is None and Pair.read("mlir") is None
    verify: Any = Verify(levels=("mhlo:iree",))
    assert "stablehlo:interpreter" in verify.requires(program())[0].fix
