"""Ops that torch decomposes before it differentiates them, by definitions of its own that are wrong or make sizes constant."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch._C import DispatchKey

from lowering.eager.control_flow import replace_gradients
from lowering.ops.tables.decompositions import TABLE

aten = torch.ops.aten

# torch's own are right where they have a gradient.
_KEPT = (aten.native_batch_norm.default, aten.softshrink.default, aten.hardshrink.default)

# The backward ops of these take no symbolic sizes; that of cumprod has a step for each element.
_FURTHER = (aten._upsample_bilinear2d_aa.default, aten._upsample_bicubic2d_aa.default, aten.cumprod.default)


def replace_definitions() -> AbstractContextManager[None]:
    """Return a context in which autograd differentiates the decompositions of `lowering.ops`."""
    defined = [op for op in TABLE if DispatchKey.Autograd in op.py_kernels and op not in _KEPT]
    return replace_gradients({op: TABLE[op].decomposition for op in (*defined, *_FURTHER)})
