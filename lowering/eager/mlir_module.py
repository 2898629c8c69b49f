"""A program in MLIR as the module of a model: there is no eager PyTorch, so a consumer of its level computes the reference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import torch

from lowering.errors import LoadError, Problem, StageFailed, Unsupported
from lowering.level import Level

Run: TypeAlias = Callable[[Mapping[str, torch.Tensor]], tuple[torch.Tensor, ...]]


class MlirModule(torch.nn.Module):
    """A module whose forward takes the inputs of the model by name, and returns the results of `@main` as a tuple.

    path: the file; level: its level. code: the program as bytecode, with the entry as `@main`.
    run: computes the results from the inputs by name; build_wide: returns the same in float64, or raises Unsupported for a program
        that has no such form. The stage `verify` sets both, as it knows the consumers.
    """

    def __init__(self, path: str, level: Level, code: bytes):
        super().__init__()
        self.path, self.level, self.code = path, level, code
        self.run: Run | None = None
        self.build_wide: Callable[[], Run] | None = None

    def forward(self, **inputs: Any) -> tuple[torch.Tensor, ...]:
        if self.run is None:
            fix = "compare its levels by the stage verify"
            raise LoadError(Problem(self.path, "is a program in MLIR, and has no eager module to run", fix))
        return self.run(inputs)

    def double(self) -> MlirModule:
        """Return a module of the same program in float64. Raises LoadError if it has no such form."""
        if self.build_wide is None:
            raise LoadError(Problem(self.path, f"a program of the level {self.level.word} has no float64 form"))
        wide = MlirModule(self.path, self.level, self.code)
        try:
            wide.run = self.build_wide()
        except (Unsupported, StageFailed) as error:
            raise LoadError(error.problems) from error
        return wide
