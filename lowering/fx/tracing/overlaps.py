"""Writes to parts of tensors whose check for overlapping memory guards no size: torch's own compares each size with 1."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import torch

_find_overlap = torch._debug_has_internal_overlap


def find_unguarded() -> AbstractContextManager[Any]:
    """Return a context in which a copy to a fake tensor adds no guard. It still fails for an expanded dim of a traced size of 2 or more."""
    return mock.patch.object(torch, "_debug_has_internal_overlap", _find)


def _find(tensor: torch.Tensor) -> int:
    env = next((size.node.shape_env for size in tensor.shape if isinstance(size, torch.SymInt)), None)
    if env is None:
        return _find_overlap(tensor)
    with env.suppress_guards():
        return _find_overlap(tensor)
