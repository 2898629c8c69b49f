"""Programs are serialized to torch's own bytes, and read back."""

from __future__ import annotations

import math

import torch
from torch._export.serde import serialize
from torch.export import Dim, ExportedProgram, export

from lowering.fx import serialization


class Mixed(torch.nn.Module):
    """Sizes that are expressions, several results of one op, and numbers that JSON has no word for."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        high, low = self.linear(x).chunk(2, -1)
        padded = torch.nn.functional.pad(high + low, (0, 1), value=-math.inf).reshape(-1)
        return padded, torch.full((x.shape[0] * 3 + 1,), math.nan)


def test_the_bytes_are_torch_s_own_and_can_be_read_back() -> None:
    program = export(Mixed(), (torch.rand(6, 4),), dynamic_shapes=({0: Dim("n", min=2, max=64)},))
    mine = serialization.serialize_program(program).exported_program
    theirs = serialize.serialize(program, serialize_state_dict=False, serialize_constants=False).exported_program
    assert mine == theirs
    read = serialization.deserialize_program(mine, program.state_dict, program.constants)
    for rows in (6, 9):
        x = torch.rand(rows, 4)
        torch.testing.assert_close(read.module()(x), program.module()(x), equal_nan=True)
    assert str(read.range_constraints) == str(program.range_constraints)
    kinds = [[(node.name, type(node.meta["val"])) for node in each.graph.nodes if node.op == "call_function"] for each in (read, program)]
    assert kinds[0] == kinds[1]  # torch-mlir's importer tells a list of results from several results


def test_a_retraced_program_has_the_same_bytes_each_time() -> None:
    """torch names the graphs that its nodes come from by their address in memory."""
    def save() -> bytes:
        program = export(torch.nn.Linear(2, 2), (torch.ones(3, 2),)).run_decompositions()
        assert any(node.meta.get("from_node") for node in program.graph.nodes)
        kept.append(program)  # whose addresses no later graph has
        return bytes(serialization.serialize_program(program).exported_program)

    kept: list[ExportedProgram] = []
    assert save() == save()


def test_arguments_of_equal_types_stay_apart() -> None:
    """A trace of the program takes arguments that are one fake tensor for the same."""
    class Sum(torch.nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return (x - y).abs() + y

    x, y, rows = torch.rand(6, 4), torch.rand(6, 4), Dim("rows", min=2, max=64)
    program = export(Sum(), (x, y), dynamic_shapes=({0: rows}, {0: rows}))
    read = serialization.deserialize_program(serialization.serialize_program(program).exported_program, {}, {})
    values = {node.name: node.meta["val"] for node in read.graph.nodes if node.op != "output"}
    assert len(set(map(id, values.values()))) == 3  # x, y, and the results of all ops
    again = read.run_decompositions()
    torch.testing.assert_close(again.module()(x, y), Sum()(x, y))
    assert [node.op for node in again.graph.nodes] == [node.op for node in program.graph.nodes]
