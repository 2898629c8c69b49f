"""The number of windows of a pooling, without a guard: torch's own asks whether the last window of `ceil_mode` begins inside the dim."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import torch

from lowering.ops.images.pooling import count_windows


def count_unguarded() -> AbstractContextManager[Any]:
    """Let results of poolings in the block have sizes that are right on both sides of that condition."""
    return mock.patch.object(torch._meta_registrations, "pooling_output_shape_pad_lr", count_windows)
