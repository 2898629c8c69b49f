"""TORCHSCRIPT -> TORCH: our importer, then torch-mlir's passes to the backend contract."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lowering import backend_contract, importer, mlir
from lowering.errors import Problem
from lowering.level import Level, Program
from lowering.stage import Note, Read, Stage


@dataclass(frozen=True)
class ToTorchDialect(Stage):
    """Import the TorchScript graph op by op, and simplify it to the backend contract: value tensors of known rank and dtype.

    backend_legal_ops: ops that torch-mlir's decomposition passes leave whole for the next stage (`aten.softmax.int`).
    """

    source: ClassVar[Level] = Level.TORCHSCRIPT
    target: ClassVar[Level] = Level.TORCH

    backend_legal_ops: tuple[str, ...] = ()

    def requires(self, program: Program) -> Sequence[Problem]:
        return importer.refusals(program.ir)

    def apply(self, program: Program, note: Note) -> Program:
        module = importer.import_graph(program.ir, mlir.torch_context())
        return backend_contract.reach(module, program, self.backend_legal_ops)

    def reads(self) -> frozenset[Read]:
        return frozenset()

    def ensures(self, program: Program) -> Sequence[Problem]:
        program.ir.operation.verify()
        return ()

    def save(self, program: Program, stem: Path) -> list[Path]:
        return backend_contract.save(program, stem)

    def ops(self, program: Program) -> dict[str, int]:
        return mlir.histogram(program.ir)
