"""A raw import at the torch level brought to torch-mlir's backend contract, and both written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lowering import direct, inventory, mlir
from lowering.custom import operators
from lowering.level import Level, Program


def reach(module: Any, program: Program, legal_ops: Sequence[str]) -> Program:
    """`program` at the torch level: value tensors of known rank and dtype; `above` it the raw import as text. Raises Unsupported, StageFailed.

    legal_ops: what torch-mlir's decomposition passes leave whole, beside the operators that have a rule in lowering.direct.
    """
    raw = program.lowered(Level.TORCH, mlir.text(module))
    options = f"backend-legal-ops={','.join(legal_ops)} extra-library="
    pipeline = f"builtin.module(torchdynamo-export-to-torch-backend-pipeline{{{options}}})"
    with operators.hidden(module, direct.RULES), inventory.complete(module, pipeline):
        mlir.run(module, pipeline, "torch")
    _drop_assertions(module)
    return raw.lowered(Level.TORCH, module)


def _drop_assertions(module: Any) -> None:
    """Decompositions assert what torch's own shape rules demand, which export has checked, or guards, for all shapes."""
    for operation in list(mlir.operations(module)):
        if operation.name == "torch.runtime.assert":
            operation.erase()


def save(program: Program, stem: Path) -> list[Path]:
    """The backend contract, and the raw import beside it."""
    contract = mlir.save(program.ir, stem, Level.TORCH.suffix)
    raw = stem.with_name(stem.name + "-raw" + Level.TORCH.suffix)
    raw.write_text(program.above.ir, encoding="utf-8")  # type: ignore[union-attr]
    return [contract, raw]
