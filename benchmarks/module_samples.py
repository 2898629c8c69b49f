"""Samples of PyTorch's module database: every module of torch.nn with inputs, in eval mode, and in training with its gradients."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import torch
from torch.utils import _pytree as pytree

from benchmarks.op_samples import LOOKED_AT, Sample, calls, sort_samples, word
from lowering import types
from lowering.model import LOSS

DTYPES = ("float32", "float16", "bfloat16")
MODES = ("eval", "train")


class Trained(torch.nn.Module):
    """A call with a loss that its gradients are taken of: its results, each element with a weight of its own, summed.

    Floating inputs are multiplied by a parameter first, so that there is a gradient also of a module without parameters.
    """

    def __init__(self, call: torch.nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.call = call
        self.scale = torch.nn.Parameter(torch.ones((), dtype=dtype))

    def forward(self, x0: Any = None, x1: Any = None, x2: Any = None, x3: Any = None, x4: Any = None, x5: Any = None, x6: Any = None,
                x7: Any = None) -> dict[str, Any]:  # fmt: skip
        given = (x * self.scale if isinstance(x, torch.Tensor) and x.dtype is self.scale.dtype else x
                 for x in (x0, x1, x2, x3, x4, x5, x6, x7))
        output = self.call(*given)
        results = [leaf for leaf in pytree.tree_leaves(output) if isinstance(leaf, torch.Tensor) and leaf.is_floating_point()]
        return {LOSS: sum(map(_weigh, results)), "output": output}


def _weigh(result: torch.Tensor) -> torch.Tensor:
    weights = torch.cos(torch.arange(result.numel(), dtype=torch.float32)).reshape(result.shape)
    return (result.float() * weights).sum() / 8


@cache
def database() -> dict[str, Any]:
    """Return every ModuleInfo by name, such as `nn.Linear`."""
    from torch.testing._internal.common_modules import module_db

    return {info.name: info for info in module_db}


def columns() -> tuple[str, ...]:
    """Return the dtypes and modes in which a module is tried, such as `float32 eval`."""
    return tuple(f"{dtype} {mode}" for dtype in DTYPES for mode in MODES)


def samples(name: str, column: str) -> list[Sample]:
    """Return the samples of a module in a dtype and mode, in the order of `op_samples.sort_samples`."""
    torch.manual_seed(0)
    dtype, mode = column.split()
    return [replace(sample, dtype=column) for sample in sort_samples(_usable(name, dtype, mode == "train"))]


def _usable(name: str, dtype: str, trains: bool) -> Iterator[Sample]:
    info, kind = database()[name], types.DTYPES[dtype].torch
    given = info.module_inputs_func(info, device="cpu", dtype=kind, requires_grad=False, training=trains)
    for _, sample in zip(range(LOOKED_AT), given, strict=False):
        if sample.forward_input is None:
            continue
        made, called = sample.constructor_input, sample.forward_input
        module = info.module_cls(*made.args, **made.kwargs).to(kind).train(trains)
        with torch.no_grad():
            copied = copy.deepcopy((called.args, called.kwargs))
            if isinstance(module, torch.nn.modules.lazy.LazyModuleMixin):
                module(*copied[0], **copied[1])  # its weights have shapes after a run
        for found in calls(name, dtype, module, called.args, called.kwargs):
            described = ", ".join(filter(None, (_describe(made.args, made.kwargs), found.constants)))
            call = found.module.train(trains)
            yield replace(found, constants=described, module=Trained(call, kind).train() if trains else call,
                          mode="training" if trains else "inference")


def _describe(args: Sequence[Any], kwargs: dict[str, Any]) -> str:
    return ", ".join([*map(word, args), *(f"{name}={word(value)}" for name, value in kwargs.items())])
