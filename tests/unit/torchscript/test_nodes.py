"""Nodes of a TorchScript graph by position agree with the bindings' own iterators, whatever a node holds."""

from __future__ import annotations

import torch

from lowering.torchscript import nodes

GRAPH = """graph(%x : Tensor, %flag : bool):
  %one : int = prim::Constant[value=1]()
  %yes : bool = prim::Constant[value=1]()
  %parts : Tensor[] = aten::chunk(%x, %one, %one)
  %a : Tensor, %b : Tensor = prim::ListUnpack(%parts)
  %chosen : Tensor = prim::If(%flag)
    block0():
      %turned : Tensor = prim::Loop(%one, %yes, %a)
        block0(%turn : int, %carried : Tensor):
          %next : Tensor = aten::relu(%carried)
          -> (%yes, %next)
      -> (%turned)
    block1():
      -> (%b)
  return (%chosen)
"""


def test_nodes_come_in_program_order_with_those_of_nested_blocks() -> None:
    kinds = [node.kind() for node in nodes.nodes(torch._C.parse_ir(GRAPH))]
    assert kinds == ["prim::Constant", "prim::Constant", "aten::chunk", "prim::ListUnpack", "prim::If", "prim::Loop", "aten::relu"]


def test_what_a_node_takes_gives_and_holds() -> None:
    graph = torch._C.parse_ir(GRAPH)
    for node in nodes.nodes(graph):
        assert [value.debugName() for value in nodes.inputs(node)] == [value.debugName() for value in node.inputs()]
        assert [value.debugName() for value in nodes.outputs(node)] == [value.debugName() for value in node.outputs()]
        assert len(nodes.blocks(node)) == len(list(node.blocks()))
