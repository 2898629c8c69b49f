"""Tokens that torch threads through a traced graph to order ops with effects. No level below has them.

The check of a linear system's error code is such an op. Without tokens, ops stay in the order of the nodes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch._functorch._aot_autograd.descriptors import (
    BackwardTokenAOTInput,
    BackwardTokenAOTOutput,
    ForwardTokenAOTInput,
    ForwardTokenAOTOutput,
)
from torch.export import ExportedProgram
from torch.export._remove_effect_tokens_pass import _remove_effect_tokens, _replace_with_effects_node
from torch.export.graph_signature import InputKind
from torch.fx import GraphModule

_TOKENS = (ForwardTokenAOTInput, BackwardTokenAOTInput, ForwardTokenAOTOutput, BackwardTokenAOTOutput)


def remove_tokens(program: ExportedProgram) -> None:
    """Remove the tokens from the arguments, results and ops of a program, in place."""
    if any(spec.kind is InputKind.TOKEN for spec in program.graph_signature.input_specs):
        _remove_effect_tokens(program)


def remove_joint_tokens(joint: GraphModule) -> None:
    """Remove the tokens from a graph of AOTAutograd, whose arguments and results have descriptors, in place."""
    graph = joint.graph
    tokens = [node for node in graph.nodes if node.op == "placeholder" and isinstance(node.meta.get("desc"), _TOKENS)]
    if not tokens:
        return
    for node in graph.find_nodes(op="call_function", target=torch.ops.higher_order.with_effects):
        _replace_with_effects_node(node, None, {}, [], [], joint)  # the program is read for objects of TorchBind only
    output = graph.output_node()
    results: Any = output.args[0]
    kept = [pair for pair in zip(results, output.meta["desc"], strict=True) if not isinstance(pair[1], _TOKENS)]
    output.args = ([result for result, _ in kept],)
    output.meta["desc"] = [described for _, described in kept]
    graph.eliminate_dead_code()
    for node in tokens:
        graph.erase_node(node)
