"""Keep gradients that a model defines itself, by marking the calls of a `torch.autograd.Function` in the captured graph.

torch.export only records the ops of a Function's forward, so autograd would silently derive another gradient from them. The marked ops are
replaced by a call of the Function before AOTAutograd runs.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import Graph, Node
from torch.utils import _pytree as pytree

from lowering.errors import Problem, Unsupported
from lowering.fx import cleanup
from lowering.ir import source_lines

_LIBRARY = torch.library.Library("shapeline_gradient", "DEF")
for _mark in ("enter", "leave"):
    _LIBRARY.define(f"{_mark}(Tensor tensor, int call, int position) -> Tensor")
    torch.library.impl(_LIBRARY, _mark, "CompositeExplicitAutograd")(lambda tensor, call, position: tensor.clone())
    torch.library.register_fake(f"shapeline_gradient::{_mark}", lambda tensor, call, position: torch.empty_like(tensor), lib=_LIBRARY)
_ENTER, _LEAVE = torch.ops.shapeline_gradient.enter.default, torch.ops.shapeline_gradient.leave.default


@dataclass
class Call:
    """A call of a Function.

    arguments: None for tensors, which the graph holds. results: how many there are. cause: why the call cannot be restored.
    """

    function: type[torch.autograd.Function]
    arguments: list[Any]
    results: int = 0
    is_tuple: bool = False
    cause: str = ""


@contextmanager
def mark_calls() -> Iterator[list[Call]]:
    """Mark calls of the model's own Functions inside the block.

    The yielded list is complete when the block ends. torch's own Functions are not marked.
    """
    calls: list[Call] = []
    original = torch.autograd.Function.__dict__["apply"]

    def apply(cls: type[torch.autograd.Function], *arguments: Any, **named: Any) -> Any:
        run = original.__get__(None, cls)
        if cls.__module__.partition(".")[0] == "torch":
            return run(*arguments, **named)
        return _mark_call(cls, run, arguments, named, calls)

    torch.autograd.Function.apply = classmethod(apply)  # type: ignore[assignment, method-assign]
    try:
        yield calls
    finally:
        torch.autograd.Function.apply = original  # type: ignore[method-assign]


def _mark_call(cls: type[torch.autograd.Function], run: Callable[..., Any], arguments: Any, named: Any, calls: list[Call]) -> Any:
    number = len(calls)
    call = Call(cls, [None if isinstance(argument, torch.Tensor) else argument for argument in arguments])
    calls.append(call)
    leaves = pytree.tree_leaves(call.arguments)
    if named or any(isinstance(leaf, torch.Tensor | torch.SymInt | torch.SymFloat | torch.SymBool) for leaf in leaves):
        call.cause = "takes sizes, keyword arguments, or tensors in lists"
    given = [_ENTER(argument, number, place) if isinstance(argument, torch.Tensor) else argument
             for place, argument in enumerate(arguments)]  # fmt: skip
    results = run(*given, **named)
    call.is_tuple = isinstance(results, tuple)
    listed = list(results) if isinstance(results, tuple) else [results]
    call.results = len(listed)
    if any(result is argument for result in listed for argument in given if isinstance(argument, torch.Tensor)):
        call.cause = "writes to its argument in place"
    if not all(isinstance(result, torch.Tensor) for result in listed):
        call.cause = "returns results that are not tensors"
    left = [_LEAVE(result, number, place) if isinstance(result, torch.Tensor) else result for place, result in enumerate(listed)]
    return tuple(left) if call.is_tuple else left[0]


def restore(captured: ExportedProgram, calls: list[Call]) -> None:
    """Replace the ops of each marked forward by a call of its Function.

    Raises Unsupported if a Function cannot be restored, with all such Functions and their user lines.
    """
    graph = captured.graph
    found: dict[int, list[Node]] = {}
    for node in graph.nodes:
        if node.target in (_ENTER, _LEAVE):
            found.setdefault(node.args[1], []).append(node)
    inner = [node for body in cleanup.bodies(captured.graph_module) for node in cleanup.calls(body)
             if node.target is _LEAVE and node.graph is not graph]  # fmt: skip
    refused = [_report(calls[node.args[1]], node, "is called in a branch or loop") for node in inner]  # type: ignore[index]
    refused += [_report(calls[number], nodes[-1], calls[number].cause) for number, nodes in found.items() if calls[number].cause]
    if refused:
        raise Unsupported(list(dict.fromkeys(refused)))
    for number, nodes in found.items():
        _replace(graph, calls[number], nodes)
    if found:
        graph.eliminate_dead_code()
        captured.graph_module.recompile()


def _replace(graph: Graph, call: Call, nodes: list[Node]) -> None:
    entered = {node.args[2]: node.args[0] for node in nodes if node.target is _ENTER}
    left = {node.args[2]: node for node in nodes if node.target is _LEAVE}
    places = sorted(entered)  # type: ignore[type-var]

    def apply(*tensors: torch.Tensor) -> Any:
        arguments = list(call.arguments)
        for place, tensor in zip(places, tensors, strict=True):
            arguments[place] = tensor  # type: ignore[call-overload]
        return call.function.apply(*arguments)

    first = next(node for node in nodes if node.target is _LEAVE)
    with graph.inserting_before(first):
        made = graph.call_function(apply, tuple(entered[place] for place in places))
        made.meta = {**first.meta, "val": tuple(left[place].meta["val"] if place in left else None for place in range(call.results))}
        if not call.is_tuple:
            made.meta["val"] = first.meta["val"]
        for place, node in left.items():
            result = graph.call_function(operator.getitem, (made, place)) if call.is_tuple else made
            if call.is_tuple:
                result.meta = dict(node.meta)
            node.replace_all_uses_with(result)


def _report(call: Call, node: Node, cause: str) -> Problem:
    line = source_lines.find_fx_line(node)
    place = f"autograd.Function '{call.function.__qualname__}'"
    where = f"{place} at {line}" if line else place
    return Problem(where, f"its own backward cannot be kept: it {cause}", "express the gradient in plain ops")
