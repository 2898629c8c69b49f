"""Packaging of a lowered program as files that run without the model's Python code (see `artifact`)."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from torch.utils import _pytree as pytree

from lowering import files
from lowering.eager import pytrees
from lowering.ir import portable
from lowering.level import Level, Program
from lowering.model import Built
from lowering.numerics.running.runner import list_names
from lowering.plain import to_plain
from lowering.record.folder import SIGNATURE
from lowering.signature import SCHEMA
from lowering.store import weights

PROGRAM = "program.stablehlo"
FORMAT = "StableHLO portable artifact"  # and its version
DESCRIPTION = ("signature", "inputs", "outputs", "model")  # keys of signature.json that say what a program is (see `describe`)


def save(program: Program, folder: Path, store: Path | None, target: str = "WEEK_4", entry: str = "main") -> list[Path]:
    """Write signature.json and program.stablehlo into `folder` and the weights into `store` (None: nowhere).

    `program` is a pure MHLO program of a built model; it becomes a versioned portable artifact, good for later readers of StableHLO too.
    Raises StageFailed, Unsupported, InfraError.
    """
    held = None if store is None else {"sha256": weights.write(program.weights, store), "store": os.path.relpath(store, folder)}
    serialized, version = serialize(program, target, entry)
    files.write_bytes(folder / PROGRAM, serialized)
    described = {"file": PROGRAM, "sha256": hashlib.sha256(serialized).hexdigest(), "format": f"{FORMAT} {version}", "entry": entry}
    files.write(folder / SIGNATURE, {"schema": SCHEMA, "program": described, "weights": held, **describe(program)})
    return [folder / SIGNATURE, folder / PROGRAM]


def serialize(program: Program, target: str = "WEEK_4", entry: str = "main") -> tuple[bytes, str]:
    """Return a pure MHLO program of a built model as a portable artifact, and its version. Raises StageFailed, Unsupported."""
    top = program.at(Level.MODEL)
    if program.level is not Level.MHLO or program.signature is None or top is None or not isinstance(top.ir, Built):
        raise ValueError("an artifact needs an MHLO program that descends from a model")
    return portable.serialize(program.ir, target, list_names(program.signature), entry)


def describe(program: Program) -> dict[str, Any]:
    """Return the description of a program for signature.json, by the keys in DESCRIPTION. `serialize` takes the same program."""
    said = (to_plain(program.signature), _describe_inputs(program), _build_structure(program), to_plain(program.model))
    return dict(zip(DESCRIPTION, said, strict=True))


def locate_store(folder: Path) -> Path:
    """Return the folder for the weights of the job in `folder`: `store/weights` beside its `runs`; its own `weights` outside a run."""
    runs = next((parent for parent in folder.absolute().parents if parent.name == "runs"), None)
    return runs.parent / "store" / "weights" if runs else folder / "weights"


def _build_structure(program: Program) -> Any:
    """Return the output pytree with the names of the results at its leaves. None if the program did not come from torch.export."""
    exported = program.at(Level.EXPORTED)
    if exported is None:
        return None
    return _describe_structure(exported.ir.call_spec.out_spec)


def _describe_inputs(program: Program) -> Any:
    """Return the arguments of forward by name, with the names of the program's inputs at the leaves and null for constants."""
    exported = program.at(Level.EXPORTED)
    if exported is None or program.signature is None:
        return None
    taken = {argument.name for argument in program.signature.inputs}
    tree = pytrees.build_marked(exported.ir.call_spec.in_spec.children()[1])
    return pytrees.describe(tree, {id(leaf): name for name, leaf in pytrees.flatten(tree) if name in taken})


def _describe_structure(spec: pytree.TreeSpec) -> Any:
    tree = pytrees.build_marked(spec)
    return pytrees.describe(tree, {id(leaf): name or "output" for name, leaf in pytrees.flatten(tree)})
