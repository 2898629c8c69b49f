"""Matches of composites in an FX graph, and the services that their patterns share: casts, constants, products."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch
from torch.fx import Node

aten = torch.ops.aten


@dataclass(frozen=True)
class Match:
    """One composite in a graph.

    root: the node that computes its result. operands: the tensors that it reads, by name. attributes: its numbers, bools, texts and lists
    of ints. inner: the nodes between the operands and the root, which nothing else uses.
    """

    root: Node
    operands: Mapping[str, Node]
    attributes: Mapping[str, Any] = field(default_factory=dict)
    inner: frozenset[Node] = frozenset()

    def is_closed(self) -> bool:
        """Return whether nothing outside of the match uses a node between its operands and its root."""
        inside = self.inner | {self.root}
        return all(is_used_inside(node, inside) for node in self.inner)


def is_used_inside(node: Node, inside: Collection[Node]) -> bool:
    """Return whether only `inside` uses a node. Assertions about its dtype do not count."""
    return all(user in inside or (user.op != "output" and not user.users) for user in node.users)


Pattern: TypeAlias = Callable[[Node], Match | None]

_CASTS = ("aten::to", "aten::_to_copy", "aten::type_as")
_MULTIPLY = (aten.mul.Tensor, aten.mul.Scalar)
_DIVIDE = (aten.div.Tensor, aten.div.Scalar)
_ADD = (aten.add.Tensor, aten.add.Scalar)


class Walk:
    """A walk from a root toward its operands. `inner` collects the nodes that it has passed."""

    def __init__(self, root: Node) -> None:
        self.root = root
        self.inner: set[Node] = set()

    def enter(self, node: Any, *targets: Any) -> tuple[Any, ...] | None:
        """Return the arguments of `node` if it calls one of `targets`, and pass it."""
        if not isinstance(node, Node) or node.target not in targets:
            return None
        self.inner.add(node)
        return tuple(node.args)

    def strip_casts(self, node: Any) -> Any:
        """Pass conversions between dtypes, and return the node before them."""
        while isinstance(node, Node) and get_name(node) in _CASTS:
            self.inner.add(node)
            node = node.args[0]
        return node

    def match(self, operands: Mapping[str, Node], attributes: Mapping[str, Any]) -> Match | None:
        """Return the match whose inner nodes have been passed, or None if one of them is used elsewhere."""
        found = Match(self.root, operands, attributes, frozenset(self.inner - {self.root} - set(operands.values())))
        return found if found.is_closed() else None


def get_name(node: Node) -> str:
    """Return `ns::name` of the op that a node calls, or an empty text."""
    schema = getattr(node.target, "_schema", None)
    return schema.name if schema is not None else ""


def get_rank(node: Node) -> int:
    return len(node.meta["val"].shape)


def is_tensor(value: Any) -> bool:
    return isinstance(value, Node) and isinstance(value.meta.get("val"), torch.Tensor)


def split_product(walk: Walk, node: Any) -> tuple[float, list[Node]]:
    """Take a product apart: the product of its constants, and its tensors."""
    if isinstance(node, int | float):
        return float(node), []
    if (arguments := walk.enter(node, *_MULTIPLY)) is not None:
        pairs = [split_product(walk, argument) for argument in arguments]
        return pairs[0][0] * pairs[1][0], pairs[0][1] + pairs[1][1]
    if isinstance(node, Node) and node.target in _DIVIDE and isinstance(node.args[1], int | float) and node.args[1]:
        walk.inner.add(node)
        number, tensors = split_product(walk, node.args[0])
        return number / float(node.args[1]), tensors
    return 1.0, [node]


def split_sum(walk: Walk, node: Any) -> tuple[Any, Any] | None:
    """Return the two terms of an addition without `alpha`."""
    if isinstance(node, Node) and node.kwargs.get("alpha", 1) != 1:
        return None
    found = walk.enter(node, *_ADD)
    return (found[0], found[1]) if found is not None and len(found) == 2 else None


def iterate_orders(pair: tuple[Any, Any] | None) -> Iterator[tuple[Any, Any]]:
    """Iterate over both orders of the operands of a commutative op."""
    if pair is not None:
        yield pair
        yield pair[1], pair[0]


def is_close(value: Any, to: float) -> bool:
    """Return whether a constant is the decimal of `to` that a user would write."""
    return isinstance(value, int | float) and abs(value - to) <= 1e-4 * abs(to)
