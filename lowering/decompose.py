"""Decompose chosen ops of an FX graph in place: each is traced alone on its fake arguments, so the rest of the graph is not retraced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.fx import Graph, GraphModule, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

Decomposition = Callable[..., Any]
Choose = Callable[[Node], Decomposition | None]


def decompose(module: GraphModule, choose: Choose) -> dict[str, int]:
    """Replace every node for which `choose` gives a decomposition, those that decompositions bring in included; how often each op was.

    New nodes keep the replaced node's user line and module path.
    """
    counts: dict[str, int] = {}
    pending = [node for node in module.graph.nodes if node.op == "call_function"]
    while pending:
        node = pending.pop()
        decomposition = choose(node)
        if decomposition is not None:
            counts[str(node.target)] = counts.get(str(node.target), 0) + 1
            pending += _replace(module.graph, node, decomposition)
    if counts:
        module.graph.eliminate_dead_code()
    return counts


def _replace(graph: Graph, node: Node, decomposition: Decomposition) -> list[Node]:
    leaves, spec = pytree.tree_flatten((node.args, dict(node.kwargs)))
    inputs = [leaf for leaf in leaves if isinstance(leaf, Node)]

    def call(*values: Any) -> Any:
        given = iter(values)
        args, kwargs = pytree.tree_unflatten([next(given) if isinstance(leaf, Node) else leaf for leaf in leaves], spec)
        result = decomposition(*args, **kwargs)
        return tuple(result) if isinstance(result, tuple) else result  # FX would write a call to a named tuple's class into the graph

    with _fake_mode(inputs):
        traced = make_fx(call, tracing_mode="symbolic", _allow_fake_constant=True)(*(value.meta["val"] for value in inputs))
    placeholders = [inner for inner in traced.graph.nodes if inner.op == "placeholder"]
    mapping = dict(zip(placeholders, inputs, strict=True))
    known = set(graph.nodes)
    with graph.inserting_before(node):
        result = graph.graph_copy(traced.graph, mapping)  # type: ignore[arg-type]
    created = [inner for inner in graph.nodes if inner not in known]
    for inner in created:
        for key in ("stack_trace", "nn_module_stack"):
            if key in node.meta:
                inner.meta[key] = node.meta[key]
    _rewire(graph, node, result)
    return [inner for inner in created if inner.op == "call_function" and inner.target is not node.target]


def _fake_mode(inputs: list[Node]) -> Any:
    for node in inputs:
        for value in pytree.tree_leaves(node.meta["val"]):
            if isinstance(value, torch._subclasses.FakeTensor):
                return value.fake_mode
    import contextlib

    return contextlib.nullcontext()


def _rewire(graph: Graph, node: Node, result: Any) -> None:
    if isinstance(result, list | tuple):
        for user in list(node.users):  # every user of a tuple or list is a getitem
            user.replace_all_uses_with(result[user.args[1]])  # type: ignore[index]
            graph.erase_node(user)
    else:
        node.replace_all_uses_with(result)
    graph.erase_node(node)
