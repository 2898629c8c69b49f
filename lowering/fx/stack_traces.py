"""Stack traces that torch.export takes of nodes, and drops."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

from torch.fx.experimental.proxy_tensor import _ModuleStackTracer


@contextmanager
def skip_placeholders() -> Iterator[None]:
    """Take no stack traces of placeholders inside the block.

    torch keeps the frames below a `forward`, and placeholders are made outside of it: what it formats for every weight is dropped.
    """
    original = _ModuleStackTracer.create_node

    def create_node(tracer: Any, kind: str, *args: Any, **kwargs: Any) -> Any:
        if kind != "placeholder" or not tracer.record_stack_traces:
            return original(tracer, kind, *args, **kwargs)
        tracer.record_stack_traces = False
        try:
            return original(tracer, kind, *args, **kwargs)
        finally:
            tracer.record_stack_traces = True

    with mock.patch.object(_ModuleStackTracer, "create_node", create_node):
        yield
