"""A call of the captured graph, traced by its rule on padded tensors."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import sympy
import torch
from torch.fx import Node
from torch.utils import _pytree as pytree

from lowering.capacity.bounds import is_counted, to_expression
from lowering.capacity.values import Call, Counted, Dim, Number, Rule


@dataclass(frozen=True)
class _Place:
    """The values of a trace that are the size of a dim. length: None for that of the tensor; count: None if it has none yet."""

    size: sympy.Expr
    length: int | None
    count: int | None


@dataclass(frozen=True)
class _Leaf:
    """An argument of a call: a constant, or the place of a value that is a plain tensor or size, a padded tensor, or a number."""

    constant: Any = None
    place: int | None = None
    dims: tuple[_Place, ...] | None = None
    is_number: bool = False


@dataclass(frozen=True)
class Made:
    """The outcome of a traced rule: results, the counts that it decides by result and position, and conditions by what they say."""

    results: list[Any]
    counts: Mapping[tuple[int, int], Any]
    checks: tuple[tuple[str, Any], ...]


class Tracing:
    """The values that the trace of a call takes, and the function that is traced.

    renew: the node that replaces an argument; length, count: nodes of a size's capacity and count.
    """

    def __init__(self, node: Node, renew: Callable[[Node], Node], length: Callable[[sympy.Expr], Any],
                 count: Callable[[sympy.Expr], Node | None]) -> None:
        self.node, self.inputs = node, list[Any]()
        self._length, self._count = length, count
        leaves, self._spec = pytree.tree_flatten((node.args, dict(node.kwargs)))
        self._leaves = [self._leaf(leaf, renew(leaf)) if isinstance(leaf, Node) else _Leaf(leaf) for leaf in leaves]
        self.results = [value for value in list_results(node) if isinstance(value, torch.Tensor)]
        self.used = _find_used(node)
        self._shapes = [self._places(value.shape, True) for value in self.results]
        self._said: list[tuple[tuple[int, int], ...]] = []
        self._texts: list[str] = []

    def run(self, rule: Rule, *values: Any) -> tuple[Any, ...]:
        """Apply a rule to the values of `inputs`."""
        args, kwargs = pytree.tree_unflatten([self._build(leaf, values) for leaf in self._leaves], self._spec)
        args = [list(argument) if isinstance(argument, list) else argument for argument in args]  # FX's lists are immutable
        shapes = tuple(tuple(self._dims(None, places, values)) for places in self._shapes)
        call = Call(self.node.target, shapes, [value.dtype for value in self.results], self.used)
        made = rule(call, *args, **kwargs)
        made = list(made) if isinstance(made, list | tuple) else [] if made is None else [made]
        self._said, self._texts = [tuple(call.counts)], [text for _, text in call.checks]
        return (*made, *call.counts.values(), *(condition for condition, _ in call.checks))

    def sort_out(self, made: list[Any]) -> Made:
        """Split the results of `run` into nodes, counts and conditions."""
        keys, texts = self._said[0], self._texts
        split = len(made) - len(keys) - len(texts)
        counts = dict(zip(keys, made[split:], strict=False))
        return Made(made[:split], counts, tuple(zip(texts, made[split + len(keys) :], strict=True)))

    def lengths(self) -> Iterator[tuple[Any, ...]]:
        """Yield the padded sizes of each result that is a tensor, as ints and nodes."""
        for places in self._shapes:
            yield tuple(self.inputs[place.length] for place in places if place.length is not None)

    def _leaf(self, leaf: Node, new: Node) -> _Leaf:
        value = leaf.meta.get("val")
        if isinstance(value, torch.Tensor):
            return _Leaf(place=self._take(new), dims=self._places(value.shape, False) if is_counted(value) else None)
        return _Leaf(place=self._take(new), is_number=new is not leaf)

    def _places(self, shape: Any, is_result: bool) -> tuple[_Place, ...]:
        found = []
        for size in map(to_expression, shape):
            length = self._take(self._length(size)) if is_result else None
            count = self._count(size) if is_counted(size) else None
            found.append(_Place(size, length, None if count is None else self._take(count)))
        return tuple(found)

    def _take(self, value: Any) -> int:
        self.inputs.append(value)
        return len(self.inputs) - 1

    def _build(self, leaf: _Leaf, values: tuple[Any, ...]) -> Any:
        if leaf.place is None:
            return leaf.constant
        value = values[leaf.place]
        if leaf.dims is not None:
            return Counted(value, tuple(self._dims(value, leaf.dims, values)))
        return Number(value) if leaf.is_number else value

    def _dims(self, data: Any, places: tuple[_Place, ...], values: tuple[Any, ...]) -> Iterator[Dim]:
        for position, place in enumerate(places):
            length = data.shape[position] if place.length is None else values[place.length]
            yield Dim(place.size, length, None if place.count is None else values[place.count])


def list_results(node: Node) -> list[Any]:
    """Return the results of a call."""
    value = node.meta.get("val")
    return list(value) if isinstance(value, list | tuple) else [] if value is None else [value]


def _find_used(node: Node) -> frozenset[int]:
    return frozenset(user.args[1] for user in node.users if user.users and getattr(user.target, "__name__", "") == "getitem")  # type: ignore[misc]


def find_decided(node: Node, known: Collection[sympy.Expr]) -> dict[tuple[int, int], sympy.Expr]:
    """Return the sizes that a call decides, by result and position; (0, 0) is the number that it gives.

    known: the sizes that were decided before; any other symbol of data in its results is the call's too.

    torch may have replaced the symbol of one by another size that it takes it to be equal to.
    """
    found: dict[tuple[int, int], sympy.Expr] = {}
    value = node.meta.get("val")
    for path in (node.meta.get("unbacked_bindings") or {}).values():
        steps: list[Any] = [getattr(step, "idx", getattr(step, "name", None)) for step in path]
        if not steps:
            found[0, 0] = to_expression(value)
            continue
        result, name, *rest = (steps[0], *steps[1:]) if isinstance(value, list | tuple) else (0, *steps)
        tensor = list_results(node)[result]
        if name == "size":
            found[result, rest[0]] = to_expression(tensor.shape[rest[0]])
        elif name is None or not isinstance(tensor, torch.Tensor):
            found[result, 0] = to_expression(tensor)
    for result, each in enumerate(list_results(node)):
        for position, size in enumerate(map(to_expression, each.shape if isinstance(each, torch.Tensor) else [])):
            if size.is_Symbol and is_counted(size) and size not in known:
                found.setdefault((result, position), size)
    return found
