"""The ladder of levels, and the one object that carries a program down it."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from lowering.model import Model
    from lowering.signature import Signature


class Level(enum.Enum):
    """A kind of IR; the order is the ladder's. `suffix` is the main file's ending."""

    MODEL = ("model", ".json")
    EXPORTED = ("exported", ".pt2")
    TORCHSCRIPT = ("torchscript", ".ts")
    TORCH = ("torch", ".torch.mlir")
    STABLEHLO = ("stablehlo", ".stablehlo.mlir")
    MHLO = ("mhlo", ".mhlo.mlir")

    def __init__(self, word: str, suffix: str):
        self.word = word
        self.suffix = suffix

    @property
    def rank(self) -> int:
        return list(Level).index(self)


@dataclass(frozen=True)
class Program:
    """A program at one level.

    ir: nn.Module (MODEL), ExportedProgram, torch._C.Graph, or an MLIR module of torch_mlir (TORCH, STABLEHLO) or jaxlib (MHLO).
    signature: arguments in order (weights first), outputs, pytree; the same at every level; None at MODEL.
    weights: parameters, buffers and tensor constants by name; never part of an IR.
    above: the program this one was lowered from (None at the entry level).
    """

    level: Level
    ir: Any
    signature: Signature | None = None
    weights: Mapping[str, torch.Tensor] = field(default_factory=dict)
    above: Program | None = None

    def lowered(self, level: Level, ir: Any, **changes: Any) -> Program:
        """The program one stage further; signature and weights carry over unless changed."""
        return replace(self, level=level, ir=ir, above=self, **changes)

    @property
    def model(self) -> Model | None:
        """The model this program descends from; None for a program that entered further down."""
        top = self.at(Level.MODEL)
        return None if top is None else getattr(top.ir, "model", top.ir)

    def at(self, level: Level) -> Program | None:
        """The latest form of this program at `level`, or None if it did not pass through it."""
        program: Program | None = self
        while program is not None and program.level is not level:
            program = program.above
        return program
