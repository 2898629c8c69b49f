"""Decomposition by a table without a retrace: the ops that remain and the numbers are those of torch's retrace."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.export import Dim, ExportedProgram

from lowering.fx import cleanup
from lowering.fx.rewriting import functional
from lowering.fx.rewriting.by_table import decompose_by_table
from lowering.ops.tables import decompositions

TABLES = {"core": decompositions.core_table, "torch_mlir": decompositions.torch_mlir_table}


class Layers(torch.nn.Module):
    """Attention over tokens of two equal layers, with ops that torch takes apart although no table names them."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.ModuleList(torch.nn.Linear(8, 8) for _ in range(2))
        self.norm = torch.nn.LayerNorm(8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            q = layer(x).unflatten(-1, (2, 4)).transpose(1, 2)
            x = x + torch.nn.functional.scaled_dot_product_attention(q, q, q).transpose(1, 2).reshape(x.shape)
            x = torch.nn.functional.dropout(self.norm(x).to(torch.float32), training=False)
        return torch.nn.functional.hardswish(x).std(-1)


class Branch(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cond(x.sum() > 0, lambda x: x.sin(), lambda x: x.cos(), (x,))


class Selected(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.hardswish(x[x > 0])


def exported(module: torch.nn.Module, x: torch.Tensor) -> ExportedProgram:
    return torch.export.export(module.eval(), (x,), dynamic_shapes=({0: Dim("batch"), 1: Dim("seq")},))


def by_table(program: ExportedProgram, table: dict[Any, Any]) -> bool:
    functional.replace_views(program.graph_module)
    return decompose_by_table(program, table, lambda op: False, [])


def list_ops(program: ExportedProgram) -> set[str]:
    """Return the names of the ops of a program without those that only compute sizes or copy."""
    functional.replace_views(program.graph_module)
    cleanup.drop_assertions(program.graph_module)
    names = {name.partition(".default")[0] for name in cleanup.count_targets(program.graph_module) if name.startswith(("aten.", "prims."))}
    return names - {"aten.sym_size.int", "aten.clone"}


@pytest.mark.parametrize("depth", list(TABLES))
def test_ops_and_numbers_are_those_of_a_retrace(depth: str) -> None:
    table = TABLES[depth]()
    module = Layers()
    retraced = exported(module, torch.randn(3, 5, 8)).run_decompositions(dict(table))
    program = exported(module, torch.randn(3, 5, 8))
    assert by_table(program, table)
    assert list_ops(program) == list_ops(retraced)
    program.graph.lint()
    x = torch.randn(4, 7, 8)
    torch.testing.assert_close(program.module()(x), module(x))


@pytest.mark.parametrize("module", [Branch(), Selected()])
def test_programs_of_branches_and_of_sizes_from_data_are_left_to_the_retrace(module: torch.nn.Module) -> None:
    program = exported(module, torch.randn(3, 5))
    before = cleanup.count_targets(program.graph_module)
    assert not by_table(program, decompositions.core_table())
    assert cleanup.count_targets(program.graph_module) == before


@pytest.mark.parametrize("answer", [lambda *args: NotImplemented, lambda *args: args[0] + torch.tensor([1.0, 2.0])])
def test_what_one_op_alone_cannot_be_decomposed_into_is_left_to_the_retrace(answer: Any) -> None:
    """A decomposition may decline its arguments, or make a constant, which belongs to the whole program."""
    program = exported(Layers(), torch.randn(3, 5, 8))
    assert not by_table(program, {torch.ops.aten.hardswish.default: answer})
    assert "aten.hardswish.default" in cleanup.count_targets(program.graph_module)
