"""Export and lowering of small models, with the warnings that they gave."""

from __future__ import annotations

from typing import Any

import pytest

from lowering.errors import StageFailed
from lowering.level import Level, Program
from lowering.model import Model
from lowering.stage import Silent
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript


class Notes(Silent):
    """A Note that keeps warnings by code."""

    def __init__(self) -> None:
        self.said: dict[str, list[str]] = {}
        self.symbols: dict[str, Any] = {}

    def __call__(self, code: str, message: str, place: str = "") -> None:
        self.said.setdefault(code, []).append(message)

    def report(self, key: str, data: Any) -> None:
        self.symbols = data if key == "symbols" else self.symbols

    @property
    def policy(self) -> str:
        return "; ".join(self.said.get("export_policy", ()))


def lowered(model: Model, export: Export | None = None) -> tuple[Program, Notes]:
    notes = Notes()
    program = Program(Level.MODEL, model)
    for stage in (export or Export(archive=False), ToTorchScript(), ToTorchDialect(), ToStableHLO(), ToMHLO()):
        program = stage.apply(program, notes)
        assert not stage.ensures(program)
    return program, notes


def exported(model: Model, export: Export | None = None) -> tuple[Program, Notes]:
    notes = Notes()
    return (export or Export()).apply(Program(Level.MODEL, model), notes), notes


def failure(model: Model, export: Export | None = None) -> str:
    with pytest.raises(StageFailed) as caught:
        exported(model, export or Export(explain=False))
    return str(caught.value)


def guards(program: Program) -> tuple[str, ...]:
    assert program.signature is not None
    return program.signature.guards
