"""Transforms of torch.func (grad, jacrev, jacfwd, vjp, hessian) in forward.

torch.export traces above autograd, where it loses the values of nested gradients: it lifts them as constants, or fails. Traced below
autograd, the ops of the gradients are ops like others.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses import FakeTensorMode, fake_impls
from torch.export import ExportedProgram

from lowering.errors import Problem
from lowering.fx import cleanup
from lowering.ops import factories

_FILES = ("eager_transforms.py", "predispatch.py", "vmap.py", "pyfunctorch.py", "apis.py")
_ZEROS = torch.ops.aten._new_zeros_with_same_feature_meta.default


def are_lost(program: ExportedProgram | None, error: BaseException | None) -> bool:
    """Return whether an export lost values of a transform, or failed in one."""
    if program is not None:
        return bool(find_lost(program)) or any(getattr(node.target, "__name__", "") == "_unwrap_for_grad"
                                               for body in cleanup.bodies(program.graph_module) for node in cleanup.calls(body))
    while error is not None:
        frames = traceback.extract_tb(error.__traceback__)
        if any("_functorch" in frame.filename and frame.filename.endswith(_FILES) for frame in frames):
            return True
        error = error.__cause__ or error.__context__
    return False


def find_lost(program: ExportedProgram) -> list[Problem]:
    """Report each constant of dynamic size. It was computed from the inputs, and its computation is not in the graph."""
    fix = "compute it in plain ops, outside of transforms of torch.func"
    return [Problem(f"constant '{name}'", f"depends on the sizes of inputs ({list(value.shape)}), and the export lost how it is computed",
                    fix)
            for name, value in program.constants.items()
            if isinstance(value, torch.Tensor) and any(isinstance(size, torch.SymInt) for size in value.shape)]


@contextmanager
def define_zeros() -> Iterator[None]:
    """Define the shape of forward-mode zeros inside the block: torch's own definition refuses dynamic sizes."""
    table = fake_impls.op_implementations_dict
    before = table.get(_ZEROS)

    def make(mode: FakeTensorMode, _: Any, *arguments: Any, **named: Any) -> Any:
        with mode:
            return factories.new_zeros_with_dims(*arguments, **named)

    table[_ZEROS] = make
    try:
        yield
    finally:
        if before is None:
            del table[_ZEROS]
        else:
            table[_ZEROS] = before
