"""Ops that torch decomposes before it differentiates them, by definitions of its own that are wrong or make sizes constant."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest import mock

import torch
from torch._C import DispatchKey

from lowering.ops.tables.decompositions import TABLE

aten = torch.ops.aten

# torch's own are right where they have a gradient.
_KEPT = (aten.native_batch_norm.default, aten.softshrink.default, aten.hardshrink.default)

_FURTHER = (aten._upsample_bilinear2d_aa.default, aten._upsample_bicubic2d_aa.default)  # their backward ops take no symbolic sizes


@contextmanager
def replace_definitions() -> Iterator[None]:
    """Let autograd differentiate the decompositions of `lowering.ops` inside the block."""
    defined = [op for op in TABLE if DispatchKey.Autograd in op.py_kernels and op not in _KEPT]
    with ExitStack() as stack:
        for op in (*defined, *_FURTHER):
            keys = {DispatchKey.Autograd} | op.py_kernels.keys() & {DispatchKey.CompositeImplicitAutograd}
            stack.enter_context(mock.patch.dict(op.py_kernels, dict.fromkeys(keys, TABLE[op].decomposition)))
            stack.enter_context(mock.patch.dict(op._dispatch_cache, clear=True))  # it holds kernels that were found before
        yield
