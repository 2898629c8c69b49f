"""Points that the verify stage recorded: the inputs of a model at some sizes, and what eager gives there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lowering import files
from lowering.errors import InfraError, Problem
from lowering.numerics.running import tensor_files


def find(folder: Path, sizes: Mapping[str, int]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor], Mapping[str, Any]]:
    """Return (inputs, results) of the point of these sizes that the verify stage recorded, and its record, with the point's `vectors`."""
    kept: list[str] = []
    for record in sorted(folder.glob("*-verify.json")):
        data = files.read(record)
        for number, point in enumerate(data["kept"]):
            if point["sizes"] == dict(sizes):
                sides = _read_tensors(record.with_suffix(".safetensors"), f"{number}/")
                return sides["input"], sides["eager"], data | {"vectors": sides["vectors"]}
            kept.append(", ".join(f"{name}={size}" for name, size in point["sizes"].items()))
    there = "; ".join(kept) or "none: run the verify stage"
    raise InfraError(Problem(str(folder), "no eager result is recorded at these sizes", f"recorded: {there}"))


def _read_tensors(path: Path, prefix: str) -> dict[str, dict[str, torch.Tensor]]:
    """Return the tensors of a kept point by name: its inputs, what eager gives, and vectors among it."""
    sides: dict[str, dict[str, torch.Tensor]] = {"input": {}, "eager": {}, "vectors": {}}
    for name, value in tensor_files.read(path, prefix).items():
        side, _, rest = name.removeprefix(prefix).partition("/")
        sides[side][rest] = value
    return sides
