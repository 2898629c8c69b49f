"""The reference of a program that starts as MLIR: its own level, run by a consumer, in place of eager."""

from __future__ import annotations

from dataclasses import dataclass

from lowering.eager.mlir_module import MlirModule
from lowering.errors import StageFailed
from lowering.level import Level, Program
from lowering.numerics import iree
from lowering.numerics.consumers import IREE, XLA, Pair
from lowering.numerics.runner import runner
from lowering.numerics.xla import Xla


@dataclass(frozen=True)
class SourceReference:
    """The program that computes the reference. why: if it is not the level of the source that runs, the reason."""

    pair: Pair
    why: str = ""

    def tests(self, pair: Pair) -> bool:
        """Return whether a comparison with `pair` can differ: it runs a level below, or another consumer runs the same level."""
        return pair.level.rank > self.pair.level.rank or (pair.level is self.pair.level and pair.consumer != self.pair.consumer)


def connect(module: MlirModule, program: Program) -> SourceReference | None:
    """Let `module` compute its results by a consumer of its level, or of the first level below that has one; None if there is none.

    IREE runs the torch dialect, XLA the levels below.
    """
    why = ""
    for level in (each for each in Level if each.rank >= module.level.rank):
        form = program.at(level)
        if form is None:
            continue
        if level is Level.TORCH and not iree.available():
            why = f"IREE, which runs it, is not installed: {iree.INSTALL}"
            continue
        try:
            module.run = runner(form, Xla("cpu"))
        except StageFailed as error:  # IREE takes no such program
            why = "; ".join(map(str, error.problems))
            continue
        return SourceReference(Pair(level, IREE if level is Level.TORCH else XLA), why)
    return None
