"""TORCHSCRIPT -> TORCH: run our importer, then torch-mlir's passes to the backend contract."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from lowering.errors import Problem
from lowering.ir import mlir
from lowering.level import Level, Program
from lowering.torch_dialect import importer, refusals
from lowering.torch_dialect.backend_contract import ToBackendContract


@dataclass(frozen=True)
class ToTorchDialect(ToBackendContract):
    """Import the TorchScript graph op by op, and simplify it to the backend contract."""

    source: ClassVar[Level] = Level.TORCHSCRIPT

    def requires(self, program: Program) -> Sequence[Problem]:
        return refusals.find_problems(program.ir)

    def import_module(self, program: Program) -> Any:
        return importer.import_graph(program.ir, mlir.create_torch_context())
