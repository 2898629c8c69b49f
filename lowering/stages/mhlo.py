"""STABLEHLO -> MHLO: move the module to jaxlib's build of MLIR, and run XLA's conversion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from lowering.errors import Problem
from lowering.ir import byteir, mlir, portable
from lowering.legalize import bounds
from lowering.level import Level, Program
from lowering.stage import Note, Read, Stage


@dataclass(frozen=True)
class ToMHLO(Stage):
    """Convert StableHLO to MHLO. Dims stay dynamic.


    composites: `keep` leaves composites as `mhlo.composite`; `byteir` writes those named `byteir.NAME` as ByteIR's custom calls, and all
        others as their decompositions.
    bounds: write the upper bound of each dynamic argument dim into its type, `tensor<?x16xf32, #mhlo.type_extensions<bounds = [64, ?]>>`.
    """

    source: ClassVar[Level] = Level.STABLEHLO
    target: ClassVar[Level] = Level.MHLO

    bounds: bool = False
    composites: Literal["keep", "byteir"] = "keep"

    def apply(self, program: Program, note: Note) -> Program:
        module = portable.to_hlo(program.ir)
        mlir.run(module, portable.TO_MHLO, "mhlo")
        if self.composites == "byteir":
            byteir.convert(module)
        if self.bounds:
            assert program.signature is not None
            bounds.write(module, program.signature)
        return program.replace_ir(Level.MHLO, module)

    def reads(self) -> frozenset[Read]:
        return frozenset()

    def ensures(self, program: Program) -> Sequence[Problem]:
        mlir.verify(program.ir, "mhlo")
        return mlir.list_impurities(program.ir, ("func", "mhlo", "builtin"))

    def save(self, program: Program, stem: Path) -> list[Path]:
        return [mlir.save(program.ir, stem, Level.MHLO.suffix)]

    def ops(self, program: Program) -> dict[str, int]:
        return mlir.count_ops(program.ir)
