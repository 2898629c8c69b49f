"""What a trace makes is torch's own, without the work whose results nothing reads."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.export import Dim, ExportedProgram, export
from torch.fx import Graph, symbolic_trace
from torch.utils._traceback import CapturedTraceback

from lowering.fx import tracing_costs
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
    with tracing_costs.skip_stack_traces():
        mine, some_taken = trace()
    pairs = zip(theirs.graph.nodes, mine.graph.nodes, strict=True)
    traces = [(node.stack_trace, other.stack_trace) for node, other in pairs]
    assert all(first == second for first, second in traces)
    assert any("in forward" in (first or "") for first, _ in traces)
    assert some_taken < all_taken


def test_values_read_directly_are_those_of_torch() -> None:
    def describe() -> list[object]:
        program = export(Mixed(), (torch.rand(6, 4),), dynamic_shapes=({0: Dim("n", min=2, max=64)},))
        values = [node.meta.get("tensor_meta") for node in program.graph.nodes]
        return [(str(value.shape), str(value.stride), value.dtype) for value in values if value is not None]

    theirs = describe()
    with tracing_costs.read_values_directly():
        assert describe() == theirs
    assert theirs


def test_code_is_generated_when_it_is_called_or_read(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    generate = Graph.python_code
    monkeypatch.setattr(Graph, "python_code", lambda graph, *args, **kwargs: made.append("") or generate(graph, *args, **kwargs))
    model, x = Mixed(), torch.arange(24.0).reshape(6, 4)
    with tracing_costs.defer_code():
        program = export(model, (x,), dynamic_shapes=({0: Dim("n", min=2, max=64)},))
        (placeholder, *_) = program.graph.find_nodes(op="placeholder")
        program.graph_module.recompile()
        assert not made
    assert f"def forward(self, {placeholder.name}" in program.graph_module.code
    assert len(made) == 1
    assert "def forward" in copy.deepcopy(program.graph_module).code
    with tracing_costs.defer_code():
        decomposed = program.run_decompositions({})
    for each in (program, decomposed):
        torch.testing.assert_close(each.module()(x), model(x), equal_nan=True)


def test_deferred_code_runs_and_follows_later_changes() -> None:
    with tracing_costs.defer_code():
        module = symbolic_trace(torch.nn.ReLU())
    assert module(torch.tensor([-1.0, 2.0])).tolist() == [0.0, 2.0]
    node = next(iter(module.graph.find_nodes(op="call_function", target=torch.nn.functional.relu)))
    node.target = torch.neg
    node.kwargs = {}
    module.recompile()
    assert module(torch.tensor([-1.0, 2.0])).tolist() == [1.0, -2.0]
    assert "neg" in module.code
