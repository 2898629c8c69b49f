"""Replace functions of torch inside a block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock


@contextmanager
def replace_functions(replaced: Mapping[tuple[Any, str], Callable[..., Any]]) -> Iterator[None]:
    """Replace functions, by the module or class that has them and their name there, inside the block."""
    with ExitStack() as stack:
        for (owner, name), function in replaced.items():
            stack.enter_context(mock.patch.object(owner, name, function))
        yield
