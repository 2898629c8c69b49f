"""The reference of a program that starts as MLIR: its own level, run by a consumer, in place of eager."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from lowering.eager.mlir_module import MlirModule, Run
from lowering.errors import StageFailed
from lowering.ir import widening
from lowering.level import Level, Program
from lowering.numerics.consumers import IREE, XLA, Pair
from lowering.numerics.running import iree
from lowering.numerics.running.runner import make_runner
from lowering.numerics.running.xla import Xla

_WIDE = {"float32": "float64", "float16": "float64", "bfloat16": "float64", "complex64": "complex128"}


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
        if level is Level.TORCH and not iree.is_available():
            why = f"IREE, which runs it, is not installed: {iree.INSTALL}"
            continue
        try:
            module.run = make_runner(form, Xla("cpu"))
            # A lowering of the source would be its own judge, so only the source itself is widened.
            module.build_wide = partial(_build_wide, form) if level is module.level is Level.STABLEHLO else None
        except StageFailed as error:  # IREE takes no such program
            why = "; ".join(map(str, error.problems))
            continue
        return SourceReference(Pair(level, IREE if level is Level.TORCH else XLA), why)
    return None


def _build_wide(form: Program) -> Run:
    """Return a function that runs a StableHLO program in float64. Raises Unsupported."""
    assert form.signature is not None
    arguments = tuple(replace(each, dtype=_WIDE.get(each.dtype, each.dtype)) for each in form.signature.arguments)
    results = tuple(replace(each, dtype=_WIDE.get(each.dtype or "", each.dtype)) for each in form.signature.results)
    signature = replace(form.signature, arguments=arguments, results=results)
    return make_runner(replace(form, ir=widening.widen(form.ir), signature=signature), Xla("cpu"))
