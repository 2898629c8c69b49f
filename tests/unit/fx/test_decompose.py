"""Decomposition op by op: equal ops are traced once, and what is put in their place computes the same."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.export import Dim, ExportedProgram

from lowering.errors import Unsupported
from lowering.fx.rewriting.decompose import decompose
from lowering.ops.tables import decompositions

aten = torch.ops.aten


class Layers(torch.nn.Module):
    """Four gelus: two on equal types, one with another constant, one of another shape."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gelu = torch.nn.functional.gelu
        y = gelu(gelu(x))
        return gelu(y, approximate="tanh").sum(-1) + gelu(y.sum(-1))


class FromData(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x.nonzero(), (x + 1).relu().nonzero()


def exported(module: torch.nn.Module, x: torch.Tensor) -> ExportedProgram:
    return torch.export.export(module, (x,), dynamic_shapes=({0: Dim("batch")},))


def counting(replacement: Any) -> tuple[Any, list[Any]]:
    calls: list[Any] = []

    def decomposition(*args: Any, **kwargs: Any) -> Any:
        calls.append(kwargs)
        return replacement(*args, **kwargs)

    return decomposition, calls


def slow_gelu(x: torch.Tensor, approximate: str = "none") -> torch.Tensor:
    if approximate == "tanh":
        return 0.5 * x * (1 + torch.tanh(0.7978845608 * (x + 0.044715 * x * x * x)))
    return 0.5 * x * (1 + torch.erf(x * 0.7071067811))


def test_equal_ops_on_equal_types_are_traced_once() -> None:
    program = exported(Layers(), torch.randn(3, 5))
    decomposition, calls = counting(slow_gelu)
    counts = decompose(program.graph_module, lambda node: decomposition if node.target is aten.gelu.default else None)
    assert counts == {"aten.gelu.default": 4}
    assert len(calls) == 3  # the two of equal types share one; a constant or a shape makes another
    program.graph.lint()
    x = torch.randn(7, 5)
    torch.testing.assert_close(program.module()(x), Layers()(x))


def test_sizes_from_data_stay_apart() -> None:
    program = exported(FromData(), torch.ones(3, 5))
    decomposition, calls = counting(lambda x: torch.ops.aten.nonzero.default(x * 1))
    decompose(program.graph_module, lambda node: decomposition if node.target is aten.nonzero.default else None)
    assert len(calls) == 2
    x = torch.tensor([[1.0, 0.0, -1.0, 2.0, 0.0]] * 4)
    first, second = program.module()(x)
    assert (len(first), len(second)) == (12, 16)
    sizes = {str(node.meta["val"].shape[0]) for node in program.graph.nodes if node.target is aten.nonzero.default}
    assert len(sizes) == 2


def test_new_nodes_keep_the_line_and_module_of_what_they_replace() -> None:
    program = exported(Layers(), torch.randn(3, 5))
    lines = [node.meta["stack_trace"] for node in program.graph.nodes if node.target is aten.gelu.default]
    decompose(program.graph_module, lambda node: slow_gelu if node.target is aten.gelu.default else None)
    erfs = [node.meta["stack_trace"] for node in program.graph.nodes if node.target is aten.erf.default]
    assert erfs == [lines[0], lines[1], lines[3]]


class RepeatedByData(torch.nn.Module):
    def forward(self, x: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
        return x.repeat(places.max() + 1, 1)


def test_an_op_that_asks_for_a_size_of_data_is_explained_in_words() -> None:
    program = torch.export.export(RepeatedByData(), (torch.randn(3, 4), torch.tensor([1, 2])), dynamic_shapes=({0: Dim("n")}, None))
    with pytest.raises(Unsupported) as refused:
        decompose(program.graph_module, decompositions.choose)
    (problem,) = refused.value.problems
    assert problem.cause.startswith("its sizes depend on data: it needs to know whether u0 == 0; u0 is made at ")
    assert "test_decompose.py:" in problem.cause and "GuardOnDataDependent" not in str(problem)
    assert "stages.export.data_sizes=capacity" in problem.fix
