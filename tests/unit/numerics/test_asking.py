"""Mismatches of models whose code asks whether it is exported: the line whose answer decides is named."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lowering.errors import Problem, StageFailed
from lowering.level import Level
from lowering.numerics import blame
from tests.unit.models.verified_jobs import lowered, model

pytestmark = pytest.mark.usefixtures("without_iree")


def is_traced() -> bool:
    return torch.compiler.is_compiling()


class Asking(torch.nn.Module):
    """Computes something else while it is exported, and asks for it in a function of its own."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * 2 if is_traced() else x * 3


def test_a_module_that_asks_whether_it_is_exported_is_named_as_the_cause(tmp_path: Path) -> None:
    fix = lowered(model(Asking), tmp_path).problems[0].fix
    line = Asking.forward.__code__.co_firstlineno + 1
    assert fix.startswith("first wrong level: exported; eager is right; the module itself computes what the program does")
    assert f"tests/unit/numerics/test_asking.py:{line} in forward" in fix


class AskingTwice(torch.nn.Module):
    """Asks where the answer decides nothing, and where it does."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x + 1 if is_traced() else 1 + x
        return y * 2 if is_traced() else y * 3


def test_of_several_questions_the_one_that_decides_is_named(tmp_path: Path) -> None:
    fix = lowered(model(AskingTwice), tmp_path).problems[0].fix
    line = AskingTwice.forward.__code__.co_firstlineno + 2
    assert f"because its code asks whether it is traced (tests/unit/numerics/test_asking.py:{line} in forward): let" in fix


def test_a_level_that_does_not_run_is_no_question_of_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(given: Any) -> Any:
        raise StageFailed(Problem("exported level", "raised AssertionError: Guard failed"))

    bench: Any = SimpleNamespace(
        select_inputs=dict, build_run=lambda form, device: fail, eager=lambda given: pytest.fail("the module was asked"),
        check=lambda run, given, reference: SimpleNamespace(agrees=False))
    monkeypatch.setattr(blame, "list_forms", lambda program: [SimpleNamespace(level=Level.EXPORTED)])
    monkeypatch.setattr(blame, "replace", lambda run, **_: run)
    given: Any = {}
    assert blame.find_first_wrong(bench, given, given, given, given) == "first wrong level: exported; eager is right"
