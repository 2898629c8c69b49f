"""Toy stages that use a package which environments have in different versions."""

from __future__ import annotations

from dataclasses import dataclass

from lowering.level import Program
from lowering.stage import Note
from tests.toys import Export


@dataclass(frozen=True)
class Scaled(Export):
    """Writes the constant of the package `tiny_scale`."""

    def apply(self, program: Program, note: Note) -> Program:
        import tiny_scale  # type: ignore[import-not-found]

        return program.replace_ir(self.target, f"scale {tiny_scale.SCALE}\n")
