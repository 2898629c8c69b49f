"""A program in MLIR as the module of a model: there is no eager PyTorch, so a consumer of its level computes the reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NoReturn

import torch

from lowering.errors import LoadError, Problem
from lowering.level import Level


class MlirModule(torch.nn.Module):
    """A module whose forward takes the inputs of the model by name, and returns the results of `@main` as a tuple.

    path: the file; level: its level. code: the program as bytecode, with the entry as `@main`.
    run: computes the results from the inputs by name; the stage `verify` sets it, as it knows the consumers.
    """

    def __init__(self, path: str, level: Level, code: bytes):
        super().__init__()
        self.path, self.level, self.code = path, level, code
        self.run: Callable[[Mapping[str, torch.Tensor]], tuple[torch.Tensor, ...]] | None = None

    def forward(self, **inputs: Any) -> tuple[torch.Tensor, ...]:
        if self.run is None:
            fix = "compare its levels by the stage verify"
            raise LoadError(Problem(self.path, "is a program in MLIR, and has no eager module to run", fix))
        return self.run(inputs)

    def double(self) -> NoReturn:
        raise LoadError(Problem(self.path, "a program in MLIR has no float64 form"))
