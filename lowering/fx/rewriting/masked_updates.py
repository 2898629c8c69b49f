"""Rewrite updates of masked elements, as `x[mask] *= 2`, into selections: no size of such a program depends on data."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import Graph, Node
from torch.utils import _pytree as pytree

from lowering.fx import cleanup
from lowering.ops import symbolic

aten = torch.ops.aten

# Elementwise ops that torch does not tag as such.
_UNTAGGED = {
    aten._to_copy.default, aten.to.dtype, aten.type_as.default, aten.detach.default, aten.alias.default, aten.floor_divide.default,
    aten.where.ScalarOther, aten.where.ScalarSelf, aten.where.Scalar, aten.log_sigmoid.default, aten.special_expit.default,
}  # fmt: skip


def rewrite(program: ExportedProgram) -> int:
    """Rewrite the updates in a functional program, and return how many were rewritten.

    An update reads elements by a mask, computes elementwise ops on them, and writes the results by the same mask. The ops are computed on
    all elements instead, and the mask selects between new and old ones. The mask may be computed again for each read, as in
    `x[b > 0] = x[b > 0] * 2`.
    """
    count = 0
    for body in list(cleanup.bodies(program.graph_module)):
        puts = [node for node in cleanup.calls(body) if node.target is aten.index_put.default and _find_mask(node) is not None]
        if puts:
            _merge_masks(body.graph)
        done = sum(_rewrite_put(node) for node in puts)
        if done:
            _drop_size_assertions(program, body.graph)
            body.graph.eliminate_dead_code()
            body.graph.lint()
            body.recompile()
        count += done
    return count


def _rewrite_put(put: Node) -> bool:
    target, values = put.args[0], put.args[2]
    mask = _find_mask(put)
    accumulates = put.args[3] if len(put.args) > 3 else put.kwargs.get("accumulate", False)
    if mask is None or accumulates or not isinstance(target, Node) or not isinstance(values, Node):
        return False
    widened = _Widened(put, mask)
    rest = target.meta["val"].dim() - _count_before(put) - mask.meta["val"].dim()
    if not widened.depends(values) or not widened.is_possible(values) or values.meta["val"].dim() != _count_before(put) + 1 + rest:
        return False
    new, shaped = widened.compute(values), mask
    for _ in range(rest):
        shaped = widened.call(aten.unsqueeze.default, (shaped, -1), {})
    put.replace_all_uses_with(widened.call(aten.where.self, (shaped, new, target), {}))
    put.graph.erase_node(put)
    return True


def _find_mask(node: Node) -> Node | None:
    """Return the mask of an indexing node if it is the only index."""
    given = [index for index in node.args[1] if index is not None]  # type: ignore[union-attr]
    return given[0] if len(given) == 1 and given[0].meta["val"].dtype is torch.bool else None


def _count_before(node: Node) -> int:
    """Return the number of dims before those of the mask."""
    return next(dim for dim, index in enumerate(node.args[1]) if index is not None)  # type: ignore[arg-type]


class _Widened:
    """The values that an update writes, computed for all elements."""

    def __init__(self, put: Node, mask: Node) -> None:
        self._put, self._mask, self._made = put, mask, dict[Node, Node]()

    def _is_read(self, node: Node) -> bool:
        return node.target is aten.index.Tensor and _find_mask(node) is self._mask and _count_before(node) == _count_before(self._put)

    def depends(self, node: Node) -> bool:
        """Return whether a node is computed of elements that the mask selects, by elementwise ops."""
        return self._is_read(node) or (_is_elementwise(node) and any(map(self.depends, node.all_input_nodes)))

    def is_possible(self, node: Node) -> bool:
        """Return whether each tensor that the ops read is selected by the mask, or has only dims that follow those of the mask."""
        if self._is_read(node):
            return True
        rank = node.meta["val"].dim()
        after = rank - _count_before(self._put) - 1
        return all(self.is_possible(source) and source.meta["val"].dim() == rank if self.depends(source)
                   else not _is_tensor(source) or source.meta["val"].dim() <= after for source in node.all_input_nodes)

    def compute(self, node: Node) -> Any:
        """Add the ops on all elements to the graph, and return the node of the result."""
        if self._is_read(node):
            return node.args[0]
        if node not in self._made:
            args, kwargs = pytree.tree_map_only(Node, lambda source: self.compute(source) if self.depends(source) else source,
                                                (node.args, dict(node.kwargs)))  # fmt: skip
            self._made[node] = self.call(node.target, args, kwargs, node)
        return self._made[node]

    def call(self, op: Any, args: Sequence[Any], kwargs: dict[str, Any], like: Node | None = None) -> Node:
        """Add a call before the write, with the user line of `like`, else of the write."""
        with self._put.graph.inserting_before(self._put):
            node = self._put.graph.call_function(op, tuple(args), kwargs)
        node.meta = {key: value for key, value in (like or self._put).meta.items() if key in ("stack_trace", "nn_module_stack")}
        given, named = pytree.tree_map_only(Node, lambda source: source.meta["val"], (node.args, dict(node.kwargs)))
        with self._put.meta["val"].fake_mode:
            node.meta["val"] = op(*given, **named)
        return node


def _is_elementwise(node: Node) -> bool:
    op = node.target
    if op in _UNTAGGED:
        return True
    return isinstance(op, torch._ops.OpOverload) and torch.Tag.pointwise in op.tags and torch.Tag.nondeterministic_seeded not in op.tags


def _merge_masks(graph: Graph) -> None:
    """Let all indexing nodes read the first of equal masks.

    In a functional program, pure ops of equal arguments give equal results.
    """
    numbers: dict[Node, Node] = {}  # a node -> the first with its value
    firsts: dict[str, Node] = {}  # by repr, which tells 0.0 from -0.0 and 1 from True
    for node in graph.nodes:
        numbers[node] = node
        if _is_pure(node):
            spelled = pytree.tree_map_only(Node, lambda source: numbers[source], (node.args, dict(node.kwargs)))
            numbers[node] = firsts.setdefault(repr((str(node.target), spelled)), node)
        if node.target in (aten.index.Tensor, aten.index_put.default) and (mask := _find_mask(node)) is not None:
            node.replace_input_with(mask, numbers[mask])


def _is_pure(node: Node) -> bool:
    """Return whether the result of a node depends on its arguments alone."""
    op = node.target
    if not isinstance(op, torch._ops.OpOverload):
        return op is operator.getitem
    return torch.Tag.nondeterministic_seeded not in op.tags and not op._schema.is_mutable and not node.meta.get("unbacked_bindings")


def _is_tensor(node: Node) -> bool:
    return isinstance(node.meta.get("val"), torch.Tensor)


def _drop_size_assertions(program: ExportedProgram, graph: Graph) -> None:
    """Remove torch.export's assertions on the number of elements that a mask selects, where nothing else reads that number."""
    cleanup.drop_assertions(program.graph_module)  # those on dtypes
    graph.eliminate_dead_code()
    for node in [node for node in graph.nodes if node.target is operator.eq]:
        mask = _find_counted_mask(node.args[0])
        if mask is not None and mask is _find_counted_mask(node.args[1]) and _is_only_asserted(node):
            _erase_with_users(graph, [node])
    for read in [node for node in graph.nodes if _is_masked_read(node)]:
        sizes = list(read.users)
        conditions = [user for size in sizes for user in size.users]
        limit = _count_most_selected(read)
        if all(size.target is aten.sym_size.int for size in sizes) and \
                all(_is_always_true(condition, limit) and _is_only_asserted(condition) for condition in conditions):
            _erase_with_users(graph, conditions)
            for node in [*sizes, read]:
                graph.erase_node(node)
            for symbol in read.meta.get("unbacked_bindings", {}):
                program.range_constraints.pop(symbol, None)


def _is_masked_read(node: Any) -> bool:
    return isinstance(node, Node) and node.target is aten.index.Tensor and _find_mask(node) is not None


def _find_counted_mask(size: Any) -> Node | None:
    """Return the mask whose elements a size counts, or None for any other argument."""
    if not isinstance(size, Node) or size.target is not aten.sym_size.int or not _is_masked_read(size.args[0]):
        return None
    read = size.args[0]
    return _find_mask(read) if _count_before(read) == size.args[1] else None  # type: ignore[arg-type]


def _is_only_asserted(condition: Node) -> bool:
    return all(user.target is aten._assert_scalar.default for user in condition.users)


def _erase_with_users(graph: Graph, conditions: Sequence[Node]) -> None:
    for condition in dict.fromkeys(conditions):
        for node in [*condition.users, condition]:
            graph.erase_node(node)


def _count_most_selected(read: Node) -> float:
    """Return the most elements that the mask of a read can have."""
    count = _find_mask(read).meta["val"].numel()  # type: ignore[union-attr]
    upper = count if isinstance(count, int) else symbolic.find_range(count).upper
    return int(upper) if isinstance(upper, int) or upper.is_Integer else math.inf


def _is_always_true(condition: Node, limit: float) -> bool:
    """Return whether a condition on the number of selected elements holds for every number from 0 to `limit`."""
    bound = condition.args[1] if len(condition.args) > 1 else None
    if not isinstance(bound, int | float):
        return False
    return (condition.target is operator.ge and bound <= 0) or (condition.target is operator.le and bound >= limit)
