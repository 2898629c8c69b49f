"""Many functions of the same tensors lowered as one program, and how its numbers differ from eager's at other sizes and values."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from benchmarks.op_trial import STAGES
from lowering import types
from lowering.level import Level
from lowering.model import Built, Input, Model, Symbol
from lowering.numerics import comparison
from lowering.numerics.running import runner
from lowering.numerics.running.xla import Xla
from lowering.stage import Silent
from lowering.stages.export import Export
from lowering.stages.torchscript import ToTorchScript

LARGEST = 512  # of every size: a scan has a step for each binary digit of it

Tensors = tuple[torch.Tensor, ...]
Function = Callable[..., Any]


class Forms(torch.nn.Module):
    """Each function of the same tensors, of copies: a function may write in place."""

    def __init__(self, functions: Sequence[Function]) -> None:
        super().__init__()
        self.functions = functions

    def forward(self, x0: torch.Tensor, x1: torch.Tensor | None = None, x2: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        given = [x for x in (x0, x1, x2) if x is not None]
        return tuple(leaf for function in self.functions for leaf in _leaves(function(*(x.clone() for x in given))))


def _leaves(result: Any) -> tuple[torch.Tensor, ...]:
    return tuple(result) if isinstance(result, tuple | list) else (result,)


def differences(forms: Mapping[str, Function], dims: Sequence[Sequence[str | int]], points: Sequence[Tensors], least: int = 0) -> list[str]:
    """Return each form that is not as in eager, at MHLO and at the exported level; traced at the first point, whose sizes are 2 or more."""
    traced = points[0]
    declared = {f"x{index}": Input(types.dtype_name(tensor.dtype), tuple(shape))
                for index, (tensor, shape) in enumerate(zip(traced, dims, strict=True))}
    symbols = {dim: Symbol(least, LARGEST) for shape in dims for dim in shape if isinstance(dim, str)}
    model = Model("forms", {"_target_": "forms"}, declared, symbols)
    built, example = Built(model, Forms(list(forms.values())).eval()), _named(traced)
    program = Export(explain=False, archive=False).export(built, example, Silent())
    for stage in (ToTorchScript(deployable=False), *(stage for name, stage in STAGES.items() if name != "torchscript")):
        assert not list(stage.requires(program))
        program = stage.apply(program, Silent())
        assert not list(stage.ensures(program))
    device, found = Xla("cpu", effort="quick"), []
    for level in (Level.EXPORTED, Level.MHLO):
        run = runner.make_runner(program.at(level), device)  # type: ignore[arg-type]
        for point in points:
            got = iter(run(_named(point)))
            for name, function in forms.items():
                for want in _leaves(function(*(tensor.clone() for tensor in point))):
                    compared = comparison.compare(next(got), want, comparison.find_tolerance(want.dtype, {}, want))
                    if not compared.agrees:
                        found.append(f"{name} at {[list(tensor.shape) for tensor in point]}, {level.word}: {compared.detail}")
    return found


def _named(tensors: Tensors) -> dict[str, torch.Tensor]:
    return {f"x{index}": tensor for index, tensor in enumerate(tensors)}
