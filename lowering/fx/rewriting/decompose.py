"""Decompose chosen ops of an FX graph in place.

Each op is traced alone on its fake arguments, so the rest of the graph is not retraced. Equal ops on arguments of equal types (the layers
of a network) are traced once.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Callable, Hashable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import sympy
import torch
from torch._subclasses.functional_tensor import FunctionalTensor, FunctionalTensorMode
from torch.fx import Graph, GraphModule, Node
from torch.fx.experimental import _config as shapes_config
from torch.fx.experimental.proxy_tensor import make_fx
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode, free_unbacked_symbols
from torch.utils import _pytree as pytree

from lowering.errors import Problem, Unsupported
from lowering.fx import cleanup
from lowering.fx.rewriting import functional, strides
from lowering.ir import source_lines

Decomposition = Callable[..., Any]
Choose = Callable[[Node], Decomposition | None]


@dataclass(frozen=True)
class Specialized:
    """A symbol of torch that the decomposition of an op specialized to a number."""

    symbol: str
    value: int
    op: str

    def problem(self, dim: str) -> Problem:
        cause = f"its decomposition makes {dim} static: specialized to {self.value}"
        return Problem(self.op, cause, "keep the op whole, or declare the dim static")


def decompose(module: GraphModule, choose: Choose, specialized: list[Specialized] | None = None) -> dict[str, int]:
    """Replace every node for which `choose` returns a decomposition, and return how often each op was replaced.

    Nodes that a decomposition introduces, and the bodies of branches and loops, are decomposed too. New nodes keep the user line and the
    module path of the node that they replace. Raises Unsupported with every op whose decomposition raises.

    specialized: receives the symbols that a decomposition specializes to numbers.
    """
    counts: dict[str, int] = {}
    traces: dict[Hashable, Graph] = {}
    refused: list[Problem] = []
    pending = [node for body in cleanup.bodies(module) for node in cleanup.calls(body)]
    while pending:
        node = pending.pop()
        decomposition = choose(node)
        if decomposition is None:
            continue
        static = _list_static_symbols(node.graph)
        try:
            traced = _trace_once(node, decomposition, traces)
        except Exception as error:  # noqa: BLE001 - torch's decompositions raise all kinds where they do not know dynamic sizes
            refused.append(_make_problem(node, error))
            continue
        if specialized is not None:
            found = _list_static_symbols(node.graph)
            specialized += [Specialized(symbol, found[symbol], _describe_node(node)) for symbol in found if symbol not in static]
        counts[str(node.target)] = counts.get(str(node.target), 0) + 1
        pending += _replace(node.graph, node, traced)
    if refused:
        raise Unsupported(refused)
    if counts:
        for body in cleanup.bodies(module):
            body.graph.eliminate_dead_code()
    return counts


def _make_problem(node: Node, error: Exception) -> Problem:
    if isinstance(error, GuardOnDataDependentSymNode):
        return _explain_data(node, error.cond)
    said = f"{type(error).__name__}: {error}".splitlines()[0]
    return Problem(_describe_node(node), f"cannot be decomposed: {said}")


def _explain_data(node: Node, condition: sympy.Basic) -> Problem:
    """Return the problem of an op that computes by whether `condition` is true, which data decide."""
    made = {name: line for name in map(str, condition.free_symbols) if (line := _find_origin(node.graph, name)) is not None}
    where = "".join(f"; {name} is made at {line}" for name, line in sorted(made.items()))
    asked = f"{condition.lhs} {condition.rel_op} {condition.rhs}" if isinstance(condition, sympy.core.relational.Relational) else condition
    return Problem(_describe_node(node), f"its sizes depend on data: it needs to know whether {asked}{where}",
                   "compute the size from sizes, or pad it: stages.export.data_sizes=capacity (docs/data_sizes.md)")


def _find_origin(graph: Graph, name: str) -> object | None:
    """Return the line of the node that makes the symbol `name`."""
    for node in graph.nodes:
        value = node.meta.get("val")
        if isinstance(value, torch.SymInt) and str(value) == name:
            return source_lines.find_fx_line(node)
    return None


def _describe_node(node: Node) -> str:
    line = source_lines.find_fx_line(node)
    return f"{node.target} at {line}" if line else str(node.target)


def _list_static_symbols(graph: Graph) -> dict[str, int]:
    """Return the symbols that are specialized to numbers so far, by torch's names."""
    env = getattr(_find_fake_mode(graph), "shape_env", None)
    replaced = env.replacements if env is not None else {}
    return {str(symbol): int(value) for symbol, value in replaced.items() if value.is_Integer}


def _replace(graph: Graph, node: Node, traced: Graph) -> list[Node]:
    """Replace `node` by the nodes of `traced`, a function of the node's inputs. Return the new calls, which may need decomposing too."""
    result, created = _copy(graph, node, traced, _list_inputs(node))
    target = node.target
    _rewire(graph, node, result)
    return [inner for inner in created if inner.op == "call_function" and inner.target is not target]


def insert(node: Node, traced: Graph, inputs: list[Node]) -> Any:
    """Insert the nodes of `traced`, a function of `inputs`, before `node`, and return its results."""
    return _copy(node.graph, node, traced, inputs)[0]


def _copy(graph: Graph, node: Node, traced: Graph, inputs: list[Node]) -> tuple[Any, list[Node]]:
    """Copy `traced` before `node`, with the user line of `node`. Return the results and all new nodes."""
    placeholders = [inner for inner in traced.nodes if inner.op == "placeholder"]
    mapping: dict[Node, Any] = dict(zip(placeholders, inputs, strict=True))
    with graph.inserting_before(node):
        result = graph.graph_copy(traced, mapping)
    created = [mapping[inner] for inner in traced.nodes if inner.op not in ("placeholder", "output")]
    created += [inner for attribute in created if attribute.op == "get_attr" for inner in _adopt(graph, attribute, traced)]
    for inner in created:
        for key in ("stack_trace", "nn_module_stack"):
            if key in node.meta:
                inner.meta[key] = node.meta[key]
    return result, created


def _adopt(graph: Graph, attribute: Node, traced: Graph) -> list[Node]:
    """Move a branch or loop body of `traced` to the module of `graph` under an unused name, and return the calls in it."""
    body = getattr(traced.owning_module, str(attribute.target))
    if not isinstance(body, GraphModule):
        return []
    module = graph.owning_module
    attribute.target = next(name for number in itertools.count() if not hasattr(module, name := f"{attribute.target}_of_{number}"))
    module.add_submodule(attribute.target, body)  # type: ignore[union-attr]
    return [inner for part in cleanup.bodies(body) for inner in cleanup.calls(part)]


def _list_inputs(node: Node) -> list[Node]:
    return [leaf for leaf in pytree.tree_leaves((node.args, node.kwargs)) if isinstance(leaf, Node)]


def _trace_once(node: Node, decomposition: Decomposition, traces: dict[Hashable, Graph]) -> Graph:
    """Return the graph of `decomposition` on the node's arguments, taken from `traces` if an equal one is there."""
    key = _make_key(node, decomposition)
    if key in traces:
        return traces[key]
    traced = _trace(node, decomposition)
    read = [getattr(traced.owning_module, str(inner.target)) for inner in traced.nodes if inner.op == "get_attr"]
    if not all(isinstance(held, GraphModule) for held in read):
        raise TypeError("its decomposition makes a constant of a tensor")  # which belongs to the module of the trace
    values = [inner.meta.get("val") for inner in traced.nodes if inner.op == "call_function"]
    has_bodies = any(inner.op == "get_attr" for inner in traced.nodes)  # a body belongs to one node only
    if not has_bodies and not _list_unbacked(values) - _list_unbacked([value.meta["val"] for value in _list_inputs(node)]):
        traces[key] = traced  # if it made sizes from data, a second use would get the same sizes
    return traced


def _trace(node: Node, decomposition: Decomposition) -> Graph:
    leaves, spec = pytree.tree_flatten((node.args, dict(node.kwargs)))
    inputs = _list_inputs(node)

    def call(*values: Any) -> Any:
        given = iter(values)
        args, kwargs = pytree.tree_unflatten([next(given) if isinstance(leaf, Node) else leaf for leaf in leaves], spec)
        args = [list(argument) if isinstance(argument, list) else argument for argument in args]  # FX's lists are immutable
        result = decomposition(*args, **kwargs)
        if result is NotImplemented:
            raise TypeError("its decomposition does not take these arguments")
        return tuple(result) if isinstance(result, tuple) else result  # FX would record a call of a named tuple's class

    return trace(call, inputs, _find_fake_mode(node.graph))


def trace(call: Callable[..., Any], inputs: list[Node], mode: Any) -> Graph:
    """Return the functional graph of a function of the values of nodes. mode: of the fake tensors of their graph."""
    # A dim that is traced at 2 gives derived dims of 1; without this option, they would make torch specialize it.
    with mode, shapes_config.patch(backed_size_oblivious=True):  # type: ignore[attr-defined]
        given = [value.meta["val"] for value in inputs]
        traced = make_fx(call, tracing_mode="symbolic", _allow_fake_constant=True)(*given)
        if not cleanup.is_functional(traced):
            traced = make_fx(_functionalize(call), tracing_mode="symbolic", _allow_fake_constant=True)(*given)
        functional.replace_views(traced)
        strides.replace_strides(traced)
        return traced.graph


def _functionalize(call: Decomposition) -> Decomposition:
    """Return `call` without in-place writes. `torch.func.functionalize` does not reach the ops inside a composite op."""

    def run(*values: Any) -> Any:
        with FunctionalTensorMode():
            result = call(*pytree.tree_map_only(torch.Tensor, FunctionalTensor.to_functional, values))
        return pytree.tree_map_only(FunctionalTensor, _unwrap, result)

    return run


def _unwrap(tensor: FunctionalTensor) -> torch.Tensor:
    torch._sync(tensor)
    return torch._from_functional_tensor(tensor.elem)


def _make_key(node: Node, decomposition: Decomposition) -> Hashable:
    """Return a key that is equal for nodes whose decompositions are equal graphs.

    It holds all that tracing can see of the arguments, and which of them are the same node.
    """
    leaves, spec = pytree.tree_flatten((node.args, dict(node.kwargs)))
    inputs = _list_inputs(node)
    types = tuple((inputs.index(leaf), _describe_type(leaf.meta["val"])) if isinstance(leaf, Node) else _describe_type(leaf)
                  for leaf in leaves)
    return decomposition, node.target, spec, types


def _describe_type(value: Any) -> Hashable:
    if isinstance(value, torch.Tensor):
        return value.dtype, value.device, value.requires_grad, _read_sizes((*value.shape, *value.stride(), value.storage_offset()))
    if isinstance(value, list | tuple):
        return tuple(map(_describe_type, value))
    if isinstance(value, float):
        return float, struct.pack("<d", value)  # the text of a NaN shows no sign
    return type(value), value.node.expr if isinstance(value, torch.SymInt | torch.SymFloat | torch.SymBool) else repr(value)


def _read_sizes(sizes: Any) -> Hashable:
    return tuple(size.node.expr if isinstance(size, torch.SymInt) else size for size in sizes)


def _list_unbacked(values: list[Any]) -> set[Any]:
    return set().union(*(free_unbacked_symbols(leaf) for leaf in pytree.tree_leaves(values) if _is_sized(leaf)))


def _is_sized(value: Any) -> bool:
    return isinstance(value, torch.Tensor | torch.SymInt | torch.SymFloat | torch.SymBool)


def _find_fake_mode(graph: Graph) -> Any:
    """Return the mode of the graph's fake tensors. An op that takes only sizes must create its tensors in it too."""
    values = (leaf for node in graph.nodes for leaf in pytree.tree_leaves(node.meta.get("val")))
    return next((value.fake_mode for value in values if isinstance(value, torch._subclasses.FakeTensor)), nullcontext())


def _rewire(graph: Graph, node: Node, result: Any) -> None:
    if isinstance(result, list | tuple):
        for user in list(node.users):  # every user of a tuple or list is a getitem
            _rewire(graph, user, result[user.args[1]])  # type: ignore[index]
    else:
        node.replace_all_uses_with(result)
    graph.erase_node(node)
