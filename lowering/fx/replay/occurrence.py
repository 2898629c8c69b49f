"""One call of a module, recorded while it is traced."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx import Node
from torch.fx.experimental.proxy_tensor import get_proxy_slot
from torch.utils import _pytree as pytree

from lowering.fx.replay import likeness

_PLAIN = (int, float, complex, str, bool, type(None), torch.dtype, torch.device, torch.layout, torch.memory_format)
_SYMBOLIC = (torch.SymInt, torch.SymFloat, torch.SymBool)


@dataclass(frozen=True)
class Given:
    """The arguments of a call, and the weights of its module.

    key: equal for calls whose traces see equal arguments. tensors: of the arguments, then the weights in the order of their names.
    """

    leaves: list[Any]
    tensors: list[torch.Tensor]
    key: Hashable


@dataclass
class Occurrence:
    """A call that was traced.

    path: of the module, as the tracer names it; nodes: of its graph; inputs: the positions of the nodes that produce the tensors given to
    it; outputs: leaves of its result; made_by: their nodes; renamed: nodes that stand for a given tensor afterwards, because an op in the
    call returned it as it was, with its position. calls: how often each submodule, by its path below, had been called before, and during
    the call. obstacle: why it cannot be replayed. is_settled: whether the call taught torch nothing new about sizes.
    """

    module: nn.Module
    path: str
    given: Given
    inputs: Mapping[Node, tuple[int, ...]]
    nodes: list[Node] = field(default_factory=list)
    outputs: list[Any] = field(default_factory=list)
    made_by: list[Node | None] = field(default_factory=list)
    renamed: dict[Node, int] = field(default_factory=dict)
    spec: pytree.TreeSpec | None = None
    calls: dict[str, tuple[int, int]] = field(default_factory=dict)
    read: set[likeness.Attribute] = field(default_factory=set)
    obstacle: str = ""
    is_settled: bool = True


class Refused(Exception):
    """A call has arguments that cannot be compared."""


def read_arguments(module: nn.Module, args: Any, kwargs: Any) -> Given:
    """Return a description of the arguments of a call. Raises Refused."""
    leaves, spec = pytree.tree_flatten((args, kwargs))
    weights = [weight for held in (module.named_parameters, module.named_buffers) for _, weight in held(remove_duplicate=False)]
    tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)] + weights
    same: dict[int, int] = {}
    pattern = tuple(same.setdefault(id(tensor), place) for place, tensor in enumerate(tensors))
    state = (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu"))
    key = (spec, tuple(describe(leaf) for leaf in leaves), pattern, state)
    try:
        hash(key)
    except TypeError as error:
        raise Refused(str(error)) from None
    return Given(leaves, tensors, key)


def describe(leaf: Any) -> Hashable:
    """Return the description of an argument or result on which a trace depends. Raises Refused for objects."""
    if isinstance(leaf, torch.Tensor):
        if type(leaf) is not FakeTensor and not isinstance(leaf, nn.Parameter):
            raise Refused(f"an argument of class {type(leaf).__name__}")
        sizes = (*leaf.shape, *leaf.stride(), leaf.storage_offset())
        return leaf.dtype, leaf.device, leaf.requires_grad, tuple(map(describe, sizes))
    if isinstance(leaf, _SYMBOLIC):
        return type(leaf), leaf.node.expr
    if isinstance(leaf, _PLAIN):
        return type(leaf), repr(leaf)
    raise Refused(f"an argument of class {type(leaf).__name__}")


def find_node(tracer: Any, tensor: torch.Tensor) -> Node | None:
    """Return the node of the traced graph that produces a tensor."""
    return get_proxy_slot(tensor, tracer, None, lambda slot: slot.proxy.node)  # type: ignore[no-any-return]


def record(
    tracer: Any, module: nn.Module, path: str, given: Given, args: Any, kwargs: Any, trace: Callable[[], Any]
) -> tuple[Occurrence, Any]:
    """Trace a call by `trace`, and return its record and its result."""
    inputs: defaultdict[Node, tuple[int, ...]] = defaultdict(tuple)
    for place, tensor in enumerate(given.tensors):
        if (node := find_node(tracer, tensor)) is not None:
            inputs[node] += (place,)
    found = Occurrence(module, path, given, dict(inputs))
    root = tracer.graph._root
    last, known, before, called = root._prev, _read_knowledge(given), likeness.snapshot(module), Counter(tracer.num_calls)
    result = trace()
    found.nodes = list(_iterate(last._next, root))
    found.outputs, found.spec = pytree.tree_flatten(result)
    found.made_by = [find_node(tracer, leaf) if isinstance(leaf, torch.Tensor) else None for leaf in found.outputs]
    for place, tensor in enumerate(given.tensors):
        if (node := find_node(tracer, tensor)) is not None and node not in inputs:
            found.renamed.setdefault(node, place)
    found.is_settled = _read_knowledge(given) == known
    if likeness.snapshot(module) != before:
        found.obstacle = "forward changes attributes"
    if [id(leaf) for leaf in pytree.tree_leaves((args, kwargs))] != [id(leaf) for leaf in given.leaves]:
        found.obstacle = "forward changes its arguments"
    for name, count in tracer.num_calls.items():
        if name != path and count != called[name]:
            if not name.startswith(f"{path}."):
                found.obstacle = f"forward calls {name}, which belongs to another module"
            found.calls[name.removeprefix(path)] = (called[name], count - called[name])
    found.calls[""] = (called[path], 1)
    return found, result


def _iterate(node: Node, root: Node) -> Iterator[Node]:
    while node is not root:
        yield node
        node = node._next


def _read_knowledge(given: Given) -> tuple[Any, ...]:
    """Return a fingerprint of the ShapeEnv, which changes when torch learns something about sizes."""
    env = next((tensor.fake_mode.shape_env for tensor in given.tensors if isinstance(tensor, FakeTensor)), None)
    if env is None:
        return ()
    env._update_version_counter()
    return env._version_counter, len(env.guards), env.unbacked_symint_counter, env.unbacked_symfloat_counter, dict(env.var_to_range)
