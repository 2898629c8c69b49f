"""Stack traces of nodes are torch's own, without the work for those that torch drops."""

from __future__ import annotations

import pytest
import torch
from torch.export import Dim, ExportedProgram, export
from torch.utils._traceback import CapturedTraceback

from lowering.fx import stack_traces
from tests.unit.fx.test_serialization import Mixed


def test_every_node_has_the_trace_that_torch_gives_it(monkeypatch: pytest.MonkeyPatch) -> None:
    taken = 0
    extract = CapturedTraceback.extract

    def count(*args: object, **kwargs: object) -> CapturedTraceback:
        nonlocal taken
        taken += 1
        return extract(*args, **kwargs)  # type: ignore[arg-type]

    def trace() -> tuple[ExportedProgram, int]:
        before = taken
        return export(Mixed(), (torch.rand(6, 4),), dynamic_shapes=({0: Dim("n", min=2, max=64)},)), taken - before

    monkeypatch.setattr(CapturedTraceback, "extract", count)
    theirs, all_taken = trace()
    with stack_traces.skip_placeholders():
        mine, some_taken = trace()
    pairs = zip(theirs.graph.nodes, mine.graph.nodes, strict=True)
    traces = [(node.stack_trace, other.stack_trace) for node, other in pairs]
    assert all(first == second for first, second in traces)
    assert any("in forward" in (first or "") for first, _ in traces)
    assert some_taken < all_taken
