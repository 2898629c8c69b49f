"""The second consumer: IREE runs the torch dialect level, and tells a wrong import from a wrong lowering."""

from __future__ import annotations

import pytest
import torch

from lowering.eager import inputs
from lowering.errors import StageFailed
from lowering.level import Level
from lowering.numerics import verifier
from lowering.numerics.running import iree, runner, xla
from lowering.stages.verify import Verify
from tests.unit.models.scaled_model import MODEL, TORCH, hlo, program

needs_iree = pytest.mark.skipif(not iree.is_available(), reason=f"IREE is optional: {iree.INSTALL}")


@needs_iree
def test_the_torch_level_runs_at_every_size_from_one_compilation() -> None:
    form = program().at(Level.TORCH)
    assert form is not None
    run = runner.make_runner(form, xla.Xla())
    for batch in (1, 9, 64):
        given = inputs.make(MODEL, {"batch": batch})
        logits, count = run(given)
        torch.testing.assert_close(logits, torch.relu(given["x"] @ form.weights["weight"]))
        assert torch.equal(count, 2 * given["ids"])


@needs_iree
@pytest.mark.parametrize(
    ("torch_text", "blame"),
    [
        (TORCH.replace("aten.relu", "aten.abs"), "first wrong level: torch; torchscript is right"),
        (TORCH, "first wrong level: stablehlo; torch is right"),
    ],
)
def test_the_torch_level_can_be_blamed_and_cleared(torch_text: str, blame: str) -> None:
    wrong = program(torch_text=torch_text, stablehlo=hlo("stablehlo", relu="add", bounds=()), mhlo=hlo("mhlo", relu="add"))
    found, _ = verifier.verify(wrong, verifier.Settings())
    assert found.blame == blame


@needs_iree
def test_what_iree_does_not_take_is_noted_and_blames_nobody() -> None:
    known = "torch.aten.relu %product : !torch.vtensor<[?,8],f32> ->"
    assert known in TORCH
    odd = TORCH.replace(known, 'torch.operator "torch.aten.no_such_op"(%product) : (!torch.vtensor<[?,8],f32>) ->')
    found, bench = verifier.verify(program(torch_text=odd), verifier.Settings(levels=(Level.TORCH, Level.MHLO)))
    assert not found.mismatches
    assert not found.failures
    assert [(code, place) for code, place, _ in bench.noted] == [("level_not_run", "torch")]
    assert "no_such_op" in bench.noted[0][2]
    assert all(set(check.levels) == {"mhlo"} for check in found.points)


@needs_iree
@pytest.mark.parametrize("word", ["and", "or", "xor"])
def test_pythons_operators_are_understood(word: str) -> None:
    text = f"""func.func @main(%a: !torch.vtensor<[?],i1>, %b: !torch.vtensor<[?],i1>) -> !torch.vtensor<[?],i1> {{
      %0 = torch.aten.__{word}__.Tensor %a, %b : !torch.vtensor<[?],i1>, !torch.vtensor<[?],i1> -> !torch.vtensor<[?],i1>
      return %0 : !torch.vtensor<[?],i1> }}"""
    one, other = torch.tensor([True, True, False, False]), torch.tensor([True, False, True, False])
    assert torch.equal(iree.Iree(text).run([one, other])[0], getattr(torch, f"bitwise_{word}")(one, other))


@needs_iree
def test_text_that_is_no_module_is_a_failure() -> None:
    with pytest.raises(StageFailed, match="IREE on the torch level"):
        iree.Iree("func.func @main() {")


def test_without_iree_its_level_is_refused_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(iree, "is_available", lambda: False)
    problems = Verify(levels=("torch",)).requires(program())
    assert [problem.fix for problem in problems] == ["pip install 'shapeline[iree]'"]
    wrong = program(stablehlo=hlo("stablehlo", relu="add", bounds=()), mhlo=hlo("mhlo", relu="add"))
    assert verifier.verify(wrong, verifier.Settings())[0].blame == "first wrong level: stablehlo; torchscript is right (torch not run)"
