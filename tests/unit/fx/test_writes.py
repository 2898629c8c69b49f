"""Writes in place to tensors that torch takes for constants are refused by name; those to buffers are not."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from lowering.errors import Unsupported
from lowering.level import Level, Program
from lowering.model import Input, Model, Symbol
from lowering.stage import Silent
from lowering.stages.export import Export


class Cached(torch.nn.Module):
    """Writes to a view of a tensor that a plain object holds, and that is a buffer too if `read`."""

    def __init__(self, read: bool) -> None:
        super().__init__()
        self.held, self.read = SimpleNamespace(rows=torch.zeros(4, 8)), read
        self.register_buffer("rows", self.held.rows.clone())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = self.rows if self.read else self.held.rows
        rows[1].add_(x.sum(0))
        return rows + 1


def cached(read: bool) -> Program:
    factory = {"_target_": f"{__name__}.Cached", "read": read}
    return Program(Level.MODEL, Model("cached", factory, {"x": Input("float32", ("n", 8))}, {"n": Symbol(1, 16)}))


def test_a_tensor_of_a_plain_object_is_refused_with_the_line() -> None:
    with pytest.raises(Unsupported) as caught:
        Export(archive=False).apply(cached(read=False), Silent())
    (problem,) = caught.value.problems
    assert "test_writes.py:27" in problem.place and "a tensor that is no buffer of the module" in problem.cause
    assert "register_buffer" in problem.fix


def test_a_buffer_is_written() -> None:
    program = Export(archive=False).apply(cached(read=True), Silent())
    assert program.signature is not None
    assert [(result.kind, result.name) for result in program.signature.results] == [("buffer_mutation", "rows"), ("output", "output")]


class Resized(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        product = torch.empty(0)
        torch.matmul(x, x.T, out=product)
        return product


def test_a_write_of_a_result_that_torch_cannot_make_functional_is_refused_with_the_line() -> None:
    model = Model("resized", {"_target_": f"{__name__}.Resized"}, {"x": Input("float32", ("n", 8))}, {"n": Symbol(1, 16)})
    with pytest.raises(Unsupported) as caught:
        Export(archive=False).apply(Program(Level.MODEL, model), Silent())
    (problem,) = caught.value.problems
    assert "aten.matmul.out" in problem.place and "test_writes.py" in problem.place
    assert "use the result that the op returns" in problem.fix
