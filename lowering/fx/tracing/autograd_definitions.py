"""Ops that torch decomposes before it differentiates them, by definitions of its own that are wrong or make sizes constant."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch._C import DispatchKey

from lowering.eager.control_flow import replace_gradients
from lowering.ops.algebra import factor_gradients
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


def replace_gradients_of_sizes() -> AbstractContextManager[None]:
    """Return a context in which no gradient makes a size a number, or takes a decision by one; for joint graphs.

    torch pads or cuts the gradients of Fourier transforms of real numbers to half of the dim, compares rows with columns for those of
    singular values and pseudoinverses, and makes zeros of the traced sizes for sgn.
    """
    halved: dict[Any, Callable[..., Any]] = {op: TABLE[op].decomposition for op in (aten._fft_r2c.default, aten._fft_c2r.default)}
    return replace_gradients({
        **halved, aten.sgn.default: _sgn, aten._linalg_svd.default: factor_gradients.svd,
        aten.linalg_pinv.atol_rtol_tensor: factor_gradients.pseudoinverse,
    })  # fmt: skip


def _sgn(tensor: torch.Tensor) -> torch.Tensor:
    if not tensor.dtype.is_complex:
        return tensor.sign()
    length = tensor.abs()
    return torch.where(length == 0, 0, tensor / torch.where(length == 0, 1, length))
