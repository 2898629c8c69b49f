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
    """A kind of IR; the order is the ladder's. `suffix` is the ending of the level's main file.

    At every level below MODEL the weights are arguments of the program, before its inputs, and no constants in it; results come in one
    order.
    """

    MODEL = ("model", ".json")
    """A `lowering.model.Model`, as it is declared; once it is exported a `Built`, which has the `torch.nn.Module` too.

    Its symbols have ranges, and its example inputs lie inside them. The file is the job's job.json.
    """

    EXPORTED = ("exported", ".pt2")
    """A `torch.export.ExportedProgram`: an FX graph of ATen ops, custom ops and higher-order ops (cond, while_loop, scan, map).

    It is functional: nothing is written in place. Parameters and buffers are lifted to arguments. Each dim that the model declares with a
    symbol is a SymInt, and the symbol log says what became of each. The files are readable code (.py) and, where the stage is asked for it,
    torch's own archive (.pt2).
    """

    TORCHSCRIPT = ("torchscript", ".ts")
    """A `torch._C.Graph` of ATen and custom ops, with `prim::If` and `prim::Loop` for control flow.

    Each node has a schema or is one of TorchScript's structural kinds, and `lint` passes. A dynamic dim is `*` in a tensor's type; sizes
    are ints that the graph computes. The file is the graph's text; a `.pt` beside it holds the module with its weights: libtorch runs it
    without Python.
    """

    TORCH = ("torch", ".torch.mlir")
    """An MLIR module of torch_mlir's build in the torch dialect (`torch.aten.*`, `torch.prim.*`, `torch.operator` for custom ops) and
    `func`.

    It verifies and fulfills torch-mlir's backend contract: tensors are values (`vtensor`) of known rank and dtype, with `?` for a dynamic
    dim. Its entry is `@main`. `-raw.torch.mlir` is the import before the passes that lead to the contract.
    """

    STABLEHLO = ("stablehlo", ".stablehlo.mlir")
    """An MLIR module of torch_mlir's build in `func`, `stablehlo` and `chlo`, the last only where the conversion to MHLO takes its ops.

    It verifies. A dynamic dim is `?`; each size is an expression of the symbols that is computed once, from the arguments' dims, or read
    from the tensor where only data tells it. `@shape_assertion` custom calls at the head refuse shapes outside the ranges, and those that
    break a guard. Custom ops are custom calls.
    """

    MHLO = ("mhlo", ".mhlo.mlir")
    """An MLIR module of jaxlib's build in `func` and `mhlo`, and no other dialect.

    It verifies. Dims are still dynamic: the signature carries their ranges, upper bounds stand in the types of arguments where the stage is
    asked for them, and the assertions of the StableHLO are kept. With the stage `verify`, its results are compared with eager's across
    the ranges.
    """

    def __init__(self, word: str, suffix: str):
        self.word = word
        self.suffix = suffix

    @property
    def rank(self) -> int:
        return list(Level).index(self)


@dataclass(frozen=True)
class Twin:
    """A small model with weights, lowered by the same stages as the model without weights that it stands for.

    changes: what is different in its config. program: None if there is no twin, and `reason` says why.
    """

    changes: Mapping[str, Any] = field(default_factory=dict)
    program: Program | None = None
    reason: str = ""


@dataclass(frozen=True)
class Program:
    """A program at one level.

    ir: nn.Module (MODEL), ExportedProgram, torch._C.Graph, or an MLIR module of torch_mlir (TORCH, STABLEHLO) or jaxlib (MHLO).
    signature: arguments in order (weights first), outputs, pytree; the same at every level; None at MODEL.
    weights: parameters, buffers and tensor constants by name; never part of an IR.
    above: the program this one was lowered from (None at the entry level).
    twin: for a stage that runs a program without weights, the small model that it runs instead.
    """

    level: Level
    ir: Any
    signature: Signature | None = None
    weights: Mapping[str, torch.Tensor] = field(default_factory=dict)
    above: Program | None = None
    twin: Twin | None = None

    def replace_ir(self, level: Level, ir: Any, **changes: Any) -> Program:
        """Return the program one stage further. Signature and weights carry over unless changed."""
        return replace(self, level=level, ir=ir, above=self, **changes)

    @property
    def model(self) -> Model | None:
        """The model this program descends from; None for a program that entered further down."""
        top = self.at(Level.MODEL)
        return None if top is None else getattr(top.ir, "model", top.ir)

    def at(self, level: Level) -> Program | None:
        """Return the latest form of this program at `level`, or None if it did not pass through it."""
        program: Program | None = self
        while program is not None and program.level is not level:
            program = program.above
        return program
