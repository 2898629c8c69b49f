"""The results of ops that torch's fake tensors keep during a trace. By default torch keeps those of every op."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest import mock

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

_aten = torch.ops.aten
_dispatch_cached = FakeTensorMode._cached_dispatch_impl

# These take milliseconds with symbolic sizes, and are often called again with equal ones. To look for a result takes 0.2 ms.
_COSTLY = frozenset((
    _aten.native_layer_norm.default, _aten.native_group_norm.default, _aten._native_batch_norm_legit_no_training.default,
    _aten.addmm.default, _aten.view.default, _aten._unsafe_view.default, _aten.relu.default, _aten.gelu.default, _aten.silu.default,
    _aten.mean.dim, _aten.pow.Tensor_Scalar,
))  # fmt: skip


def skip_cache() -> AbstractContextManager[Any]:
    """Return a context in which fake tensors keep no results of ops.

    With symbolic sizes few calls are found again, and making the entries takes up to half of the time of a trace.
    """
    return mock.patch.object(FakeTensorMode, "_cached_dispatch_impl", FakeTensorMode._dispatch_impl)


@contextmanager
def keep_costly() -> Iterator[None]:
    """Keep the results of costly ops that a model calls inside the block, and of no ops that these are computed by."""
    is_inside = False

    def dispatch(mode: FakeTensorMode, function: Any, *rest: Any) -> Any:
        nonlocal is_inside
        if is_inside or function not in _COSTLY:
            return mode._dispatch_impl(function, *rest)
        is_inside = True
        try:
            return _dispatch_cached(mode, function, *rest)
        finally:
            is_inside = False

    with mock.patch.object(FakeTensorMode, "_cached_dispatch_impl", dispatch):
        yield

