"""TORCH -> STABLEHLO: torch-mlir's conversion, then our legalization: only func and stablehlo ops, each size computed once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lowering import inventory, mlir
from lowering.custom import operators
from lowering.errors import Problem, Unsupported
from lowering.legalize import entry
from lowering.level import Level, Program
from lowering.stage import Note, Stage


@dataclass(frozen=True)
class ToStableHLO(Stage):
    """Convert the torch dialect to StableHLO and make it pure.

    allow_non_finites: keep infinities in constants (masks use them).
    assertions: the program refuses shapes outside the declared ranges and the exported program's guards.
    """

    source: ClassVar[Level] = Level.TORCH
    target: ClassVar[Level] = Level.STABLEHLO

    allow_non_finites: bool = True
    assertions: bool = True

    def apply(self, program: Program, note: Note) -> Program:
        module = mlir.copy(program.ir)
        if problems := operators.outline(module, program.model):
            raise Unsupported(problems, mlir.text(module))
        allow = str(self.allow_non_finites).lower()
        inventory.run(module, f"builtin.module(torch-backend-to-stablehlo-backend-pipeline{{allow-non-finites={allow}}})", "stablehlo")
        mlir.run(module, "builtin.module(func.func(remove-shape-constraints,canonicalize,cse))", "stablehlo")
        problems = entry.legalize(module, program.signature, self.assertions)
        if problems:
            raise Unsupported(problems, mlir.text(module))
        mlir.run(module, "builtin.module(func.func(canonicalize,cse))", "stablehlo")
        return program.lowered(Level.STABLEHLO, module)

    def ensures(self, program: Program) -> Sequence[Problem]:
        program.ir.operation.verify()
        return mlir.impurities(program.ir, ("func", "stablehlo", "chlo", "builtin"))

    def save(self, program: Program, stem: Path) -> list[Path]:
        return [mlir.save(program.ir, stem, Level.STABLEHLO.suffix)]

    def ops(self, program: Program) -> dict[str, int]:
        return mlir.histogram(program.ir)
