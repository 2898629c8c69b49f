"""Subnormal numbers: smaller than a float holds with all its digits. XLA's code takes them for zeros; eager does if it is asked to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def flush() -> Iterator[None]:
    """Make ops of this thread take subnormal operands and results for zeros inside the block, where the processor can."""
    before = bool(torch.full((), torch.finfo(torch.float32).tiny) / 2 == 0)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
