"""Warnings of torch about its own code, which a model's author can do nothing about."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

# A copy of a pytree's structure warns of the class of its leaves. An export of nn.LSTM and nn.GRU takes their list of weights for state.
_OWN = (
    (r"`isinstance\(treespec, LeafSpec\)` is deprecated", FutureWarning),
    (r"The tensor attributes? (self\.[\w.]*_flat_weights\[\d+\](, )?)+ (was|were) assigned during export", UserWarning),
)


@contextmanager
def silence() -> Iterator[None]:
    """Ignore these warnings during the block."""
    with warnings.catch_warnings():
        for message, category in _OWN:
            warnings.filterwarnings("ignore", message, category)
        yield
