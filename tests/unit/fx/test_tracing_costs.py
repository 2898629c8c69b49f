"""What a trace makes is torch's own, without the work whose results nothing reads."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch._higher_order_ops.partitioner import HopGraphMinCutPartitioner
from torch._higher_order_ops.scan import scan
from torch.export import Dim, ExportedProgram, export
from torch.fx import Graph, symbolic_trace
from torch.utils._traceback import CapturedTraceback

from lowering.eager import control_flow
from lowering.fx.tracing import tracing_costs
from lowering.model import Input, Model, Symbol
from lowering.symbols import policy
from lowering.symbols.attempts import Options
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


def test_a_program_of_values_described_once_is_that_of_torch() -> None:
    def trace() -> ExportedProgram:
        return export(Mixed(), (torch.rand(6, 4),), dynamic_shapes=({0: Dim("n", min=2, max=64)},)).run_decompositions()

    theirs = trace()
    with tracing_costs.describe_values_once():
        mine = trace()
    described = [[(str(node), value.shape, value.stride()) for node in program.graph.nodes
                  if isinstance(value := node.meta.get("val"), torch.Tensor)] for program in (theirs, mine)]
    assert str(mine) == str(theirs)
    assert str(described[0]) == str(described[1])
    assert {type(node.meta.get("tensor_meta")) for node in mine.graph.nodes} == {type(None)}


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


class Recurrence(torch.nn.Module):
    """A recurrence over the rows with a weight."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.eye(4) / 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return scan(lambda state, row: ((new := torch.tanh(state @ self.weight + row)), new * 2), torch.zeros(4), x)[1]


class Slope(Recurrence):
    """A gradient through a branch, and past it."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            branch = torch.cond(x.sum() > 0, lambda value: value.exp() @ self.weight, lambda value: value + 1, (x,))
            return torch.autograd.grad((branch * x).sum(), x)[0]


def capture(factory: type[torch.nn.Module]) -> ExportedProgram:
    """Export a model as the stage does."""
    model = Model("model", {"_target_": factory.__name__}, {"x": Input("float32", ("n", 4))}, {"n": Symbol(2, 9)})
    program = policy.choose_best(policy.try_all(model, factory(), lambda _: {"x": torch.rand(5, 4)}, ("declared",), Options())).program
    assert program is not None
    return program


def test_bodies_are_traced_without_gradients_that_nothing_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    partition = HopGraphMinCutPartitioner.create_partitioned_graph

    def count(*args: Any, **kwargs: Any) -> object:
        made.append(partition(*args, **kwargs))
        return made[-1]

    monkeypatch.setattr(HopGraphMinCutPartitioner, "create_partitioned_graph", count)
    program = capture(Recurrence)
    assert not made
    theirs = export(Recurrence(), (), {"x": torch.rand(5, 4)}, dynamic_shapes={"x": {0: Dim("n", min=2, max=9)}})
    assert made
    assert [node.target for node in program.graph.nodes] == [node.target for node in theirs.graph.nodes]
    x = torch.linspace(-1, 1, 28).reshape(7, 4)
    with control_flow.run_as_python():  # else bodies are compiled
        torch.testing.assert_close(program.module()(x=x), theirs.module()(x=x))


def test_a_gradient_in_forward_passes_through_bodies() -> None:
    program, x = capture(Slope), torch.linspace(-1, 2, 28).reshape(7, 4)
    for each in (x, -x):
        with torch.no_grad(), control_flow.run_as_python():
            torch.testing.assert_close(program.module()(x=each), Slope()(each))
