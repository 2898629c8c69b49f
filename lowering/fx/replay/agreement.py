"""Compare the graphs of two calls of like modules: whether one becomes the other when its inputs are replaced."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.fx import Node
from torch.utils import _pytree as pytree

from lowering.fx.replay.occurrence import Occurrence, Refused, describe

_SYMBOLIC = (torch.SymInt, torch.SymFloat, torch.SymBool)


def disagree(first: Occurrence, second: Occurrence) -> str:
    """Return why the graphs of two calls differ, or why `second` cannot be copied; an empty text if neither holds."""
    if obstacle := first.obstacle or second.obstacle:
        return obstacle
    if not second.is_settled:
        return "its sizes are still being learned"
    ours, theirs = (list(filter(_is_op, occurrence.nodes)) for occurrence in (first, second))
    if len(ours) != len(theirs):
        return f"one has {len(ours)} ops, another {len(theirs)}"
    match = _Match(first, second)
    for node, other in zip(ours, theirs, strict=True):
        if why := match.differ(node, other):
            return f"{node.target}: {why}"
    return _differ_in_outputs(match)


def is_size(node: Node) -> bool:
    """Return whether a node computes a size from others. Equal sizes have equal expressions, whatever node computes them."""
    return isinstance(node.meta.get("val"), _SYMBOLIC)


def _is_op(node: Node) -> bool:
    return not is_size(node) or bool(node.meta.get("unbacked_bindings"))


class _Match:
    """Pairs of nodes of two calls that compute the same."""

    def __init__(self, first: Occurrence, second: Occurrence):
        self.first, self.second = first, second
        self.pairs: dict[Node, Node] = {}
        self.memory = set(_list_memory(second.given.tensors))

    def differ(self, node: Node, other: Node) -> str:
        """Return how two ops differ, or pair them."""
        if node.op != "call_function" or other.op != "call_function":
            return "holds a constant"
        if node.target is not other.target:
            return f"the other call has {other.target}"
        if not isinstance(node.target, torch._ops.OpOverload) and not _is_pure(node.target):
            return "is not an op"
        if node.meta.get("unbacked_bindings") or other.meta.get("unbacked_bindings"):
            return "its result has a size that depends on data"
        if not self._are_equal((node.args, dict(node.kwargs)), (other.args, dict(other.kwargs))):
            return "its arguments differ"
        if self._writes_outside(other):
            return "writes to an argument of the call"
        try:
            if _describe_all(node) != _describe_all(other):
                return "its results differ"
        except Refused as error:
            return str(error)
        if node.meta.get("stack_trace") != other.meta.get("stack_trace"):
            return "it is on another line"
        if list(_list_modules(node, self.first)) != list(_list_modules(other, self.second)):
            return "it belongs to another module"
        self.pairs[node] = other
        return ""

    def _are_equal(self, ours: Any, theirs: Any) -> bool:
        if isinstance(ours, Node) or isinstance(theirs, Node):
            return isinstance(ours, Node) and isinstance(theirs, Node) and self.is_same(ours, theirs)
        if isinstance(ours, list | tuple):
            return type(ours) is type(theirs) and len(ours) == len(theirs) and all(map(self._are_equal, ours, theirs))
        if isinstance(ours, dict):
            return isinstance(theirs, dict) and list(ours) == list(theirs) and all(self._are_equal(ours[key], theirs[key]) for key in ours)
        return type(ours) is type(theirs) and repr(ours) == repr(theirs)

    def is_same(self, node: Node, other: Node) -> bool:
        """Return whether two nodes are paired, are the same input of both calls, or equal sizes."""
        if node in self.pairs:
            return self.pairs[node] is other
        if node in self.first.inputs:
            return self.first.inputs[node] == self.second.inputs.get(other)
        return is_size(node) and is_size(other) and describe(node.meta["val"]) == describe(other.meta["val"])

    def _writes_outside(self, node: Node) -> bool:
        """Return whether an op writes to memory that the call did not allocate."""
        if not isinstance(node.target, torch._ops.OpOverload) or not node.target._schema.is_mutable:
            return False
        formals = node.target._schema.arguments
        given = {**dict(zip((formal.name for formal in formals), node.args, strict=False)), **node.kwargs}
        written = [given.get(formal.name) for formal in formals if formal.is_write]
        values = [leaf.meta["val"] for leaf in pytree.tree_leaves(written) if isinstance(leaf, Node)]
        return any(memory in self.memory for memory in _list_memory(values))


def _differ_in_outputs(match: _Match) -> str:
    """Return how the results of two calls differ, or why those of the second cannot be copied."""
    first, second = match.first, match.second
    if first.spec != second.spec:
        return "the structures of the results differ"
    made: dict[int, int] = {}
    for ours, theirs, node, other in zip(first.outputs, second.outputs, first.made_by, second.made_by, strict=True):
        try:
            if describe(ours) != describe(theirs):
                return "the results differ"
        except Refused as error:
            return str(error).replace("argument", "result")
        if not isinstance(theirs, torch.Tensor):
            continue
        given = _find_place(ours, first), _find_place(theirs, second)
        if given[0] != given[1] or (given[1] is None and (node is None or other is None or not match.is_same(node, other))):
            return "the results come from other ops"
        if given[1] is not None:
            continue
        (memory,) = _list_memory([theirs])
        if memory in match.memory or made.setdefault(memory, id(theirs)) != id(theirs):
            return "a result is a view of an argument or of another result"
        if theirs.storage_offset() != 0:
            return "a result begins inside its memory"
    renamed = {match.pairs.get(node): place for node, place in first.renamed.items()}
    return "" if renamed == second.renamed else "they give arguments other names"


def _find_place(output: torch.Tensor, occurrence: Occurrence) -> int | None:
    """Return the position of an output among the given tensors, if it is one of them."""
    return next((place for place, tensor in enumerate(occurrence.given.tensors) if tensor is output), None)


def _describe_all(node: Node) -> list[Any]:
    return [describe(leaf) for leaf in pytree.tree_leaves(node.meta.get("val"))]


def _list_modules(node: Node, occurrence: Occurrence) -> Iterator[tuple[str, Any]]:
    """Yield the modules in which a node was traced, from that of the call on: their paths below it, and their classes."""
    for path, kind in node.meta.get("nn_module_stack", {}).values():
        if path == occurrence.path or path.startswith(f"{occurrence.path}."):
            yield path.removeprefix(occurrence.path), kind


def _list_memory(values: Any) -> list[int]:
    return [value.untyped_storage()._cdata for value in values if isinstance(value, torch.Tensor)]


def _is_pure(target: Any) -> bool:
    """Return whether a target that is no op only computes: Python's operators on sizes and lists of results."""
    return getattr(target, "__module__", "") in ("_operator", "math", "torch") and not getattr(target, "__name__", "").startswith("_")
