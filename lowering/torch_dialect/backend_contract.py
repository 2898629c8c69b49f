"""Lower to the torch level, with any importer: simplify a raw import to torch-mlir's backend contract, and write both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from lowering import torch_to_stablehlo
from lowering.custom import operators
from lowering.errors import Problem
from lowering.ir import mlir
from lowering.level import Level, Program
from lowering.stage import Note, Read, Stage
from lowering.torch_dialect import inventory

# Left whole, because no lower level can express their results, and an error must name these ops, not their decompositions.
SIZED_BY_DATA = ("aten.nonzero",)


@dataclass(frozen=True)
class ToBackendContract(Stage):
    """A stage that imports a program and simplifies it to value tensors of known rank and dtype.


    backend_legal_ops: ops that torch-mlir's decomposition passes leave whole for the next stage, such as `aten.batch_norm`, which is one op
    in StableHLO and four broadcasts if it is decomposed.
    """

    target: ClassVar[Level] = Level.TORCH

    backend_legal_ops: tuple[str, ...] = ("aten.batch_norm",)

    def import_module(self, program: Program) -> Any:
        """Return the MLIR module of `program` as an importer produces it, in the torch dialect. Raises Unsupported or StageFailed."""
        raise NotImplementedError

    def apply(self, program: Program, note: Note) -> Program:
        return self.simplify(self.import_module(program), program)

    def simplify(self, module: Any, program: Program) -> Program:
        """Return `program` at the torch level, made from a raw module in place. Raises Unsupported or StageFailed."""
        return _simplify(module, program, self.backend_legal_ops)

    def reads(self) -> frozenset[Read]:
        return frozenset()

    def ensures(self, program: Program) -> Sequence[Problem]:
        mlir.verify(program.ir, "torch")
        return ()

    def save(self, program: Program, stem: Path) -> list[Path]:
        return _save(program, stem)

    def ops(self, program: Program) -> dict[str, int]:
        return mlir.count_ops(program.ir)


def _simplify(module: Any, program: Program, legal_ops: Sequence[str]) -> Program:
    """Return `program` at the torch level: value tensors of known rank and dtype.

    The raw import is kept as text in `above`. Raises Unsupported or StageFailed.

    legal_ops: ops that torch-mlir's decomposition passes leave whole, besides those with a rule in lowering.torch_to_stablehlo.
    """
    raw = program.replace_ir(Level.TORCH, mlir.print_annotated(module))
    options = f"backend-legal-ops={','.join((*torch_to_stablehlo.WHOLE, *SIZED_BY_DATA, *legal_ops))} extra-library="
    pipeline = f"builtin.module(torchdynamo-export-to-torch-backend-pipeline{{{options}}})"
    with operators.hide(module, torch_to_stablehlo.RULES), inventory.report_all(module, pipeline):
        mlir.run(module, pipeline, "torch")
    _drop_assertions(module)
    return raw.replace_ir(Level.TORCH, module)


def _drop_assertions(module: Any) -> None:
    """Remove the assertions of decompositions.

    They repeat torch's shape rules, which torch.export has checked, or guards, for all shapes.
    """
    for operation in list(mlir.walk_operations(module)):
        if operation.name == "torch.runtime.assert":
            operation.erase()


def _save(program: Program, stem: Path) -> list[Path]:
    """Write the backend contract, and the raw import beside it."""
    contract = mlir.save(program.ir, stem, Level.TORCH.suffix)
    raw = stem.with_name(stem.name + "-raw" + Level.TORCH.suffix)
    raw.write_text(program.above.ir, encoding="utf-8")  # type: ignore[union-attr]
    return [contract, raw]
