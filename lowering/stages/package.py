"""MHLO -> MHLO: write the files that are needed to run the program elsewhere (signature, portable StableHLO, weights).

The IR is unchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from lowering.errors import Problem
from lowering.ir import mlir
from lowering.level import Level, Program
from lowering.model import Built
from lowering.numerics import artifact
from lowering.stage import Note, Read, Stage
from lowering.store import weights


@dataclass(frozen=True)
class Package(Stage):
    """Write the artifact that `shapeline exec` runs.

    Weights are stored once, by digest, in the store beside `runs`, or in the job's folder if there is none.

    keep_weights: if false, the artifact contains no weights, and can be read but not run.
    """

    source: ClassVar[Level] = Level.MHLO
    target: ClassVar[Level] = Level.MHLO

    keep_weights: bool = True

    def requires(self, program: Program) -> Sequence[Problem]:
        top = program.at(Level.MODEL)
        if program.signature is None or top is None or not isinstance(top.ir, Built):
            return [Problem("package", "the program was not lowered from a model, so its inputs are unknown", "remove this stage")]
        return []

    def apply(self, program: Program, note: Note) -> Program:
        if self.keep_weights and weights.list_fakes(program.weights):
            note("weights_faked", "the weights are fake, so the artifact contains none and cannot be run")
        return program

    def reads(self) -> frozenset[Read]:
        return frozenset({"model", "weights"})

    def save(self, program: Program, stem: Path) -> list[Path]:
        """Write signature.json and program.stablehlo to the job's folder. Raises Unsupported, StageFailed or InfraError."""
        keep = self.keep_weights and not weights.list_fakes(program.weights)
        return artifact.save(program, stem.parent, artifact.weights_store(stem.parent) if keep else None)

    def ops(self, program: Program) -> dict[str, int]:
        return mlir.count_ops(program.ir)
