"""TORCHSCRIPT -> TORCH: our importer, then torch-mlir's passes to the backend contract."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lowering import importer, mlir
from lowering.errors import Problem
from lowering.level import Level, Program
from lowering.stage import Note, Stage


@dataclass(frozen=True)
class ToTorchDialect(Stage):
    """Import the TorchScript graph op by op, and simplify it to the backend contract: value tensors of known rank and dtype.

    backend_legal_ops: ops that torch-mlir's decomposition passes leave whole for the next stage (`aten.softmax.int`).
    """

    source: ClassVar[Level] = Level.TORCHSCRIPT
    target: ClassVar[Level] = Level.TORCH

    backend_legal_ops: tuple[str, ...] = ()

    def apply(self, program: Program, note: Note) -> Program:
        module = importer.import_graph(program.ir, program.signature, mlir.torch_context())
        raw = program.lowered(Level.TORCH, mlir.text(module))
        legal = ",".join(self.backend_legal_ops)
        mlir.run(module, f"builtin.module(torchdynamo-export-to-torch-backend-pipeline{{backend-legal-ops={legal} extra-library=}})", "torch")
        return raw.lowered(Level.TORCH, module)

    def ensures(self, program: Program) -> Sequence[Problem]:
        program.ir.operation.verify()
        return ()

    def save(self, program: Program, stem: Path) -> list[Path]:
        """The backend contract, and the raw import beside it."""
        contract = stem.with_name(stem.name + Level.TORCH.suffix)
        contract.write_text(mlir.text(program.ir), encoding="utf-8")
        raw = stem.with_name(stem.name + "-raw" + Level.TORCH.suffix)
        raw.write_text(program.above.ir, encoding="utf-8")  # type: ignore[union-attr]
        return [contract, raw]

    def ops(self, program: Program) -> dict[str, int]:
        return mlir.histogram(program.ir)
