"""Sizes that a trace read from strides, read from sizes again: no level below has strides."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch.fx import GraphModule, Node

from lowering.fx import cleanup

aten = torch.ops.aten


def replace_strides(module: GraphModule) -> None:
    """Replace each stride of a tensor by the size, or the product of the sizes of the dims after it, that is the same expression.

    torch takes any value of the right expression for a size, a stride too.
    """
    for body in cleanup.bodies(module):
        for node in [node for node in cleanup.calls(body) if node.target is aten.sym_stride.int]:
            tensor, dim = node.args
            if dims := _find_dims(node.meta["val"], tensor.meta["val"].shape, int(dim)):  # type: ignore[union-attr, arg-type]
                node.replace_all_uses_with(_multiply(body, node, tensor, dims))  # type: ignore[arg-type]
                body.graph.erase_node(node)


def _find_dims(stride: Any, shape: Sequence[Any], dim: int) -> list[int]:
    """Return the dims whose sizes have `stride` as their product."""
    after = list(range(dim % len(shape) + 1, len(shape)))
    product: Any = 1
    for place in after:
        product = product * shape[place]
    if _is_same(product, stride):
        return after
    return next(([place] for place, size in enumerate(shape) if _is_same(size, stride)), [])


def _is_same(one: Any, other: Any) -> bool:
    first, second = (value.node.expr if isinstance(value, torch.SymInt) else value for value in (one, other))
    return bool(first == second)


def _multiply(module: GraphModule, node: Node, tensor: Node, dims: Sequence[int]) -> Node:
    found: Node | None = None
    with module.graph.inserting_before(node):
        for dim in dims:
            size = module.graph.call_function(aten.sym_size.int, (tensor, dim))
            size.meta = {"val": tensor.meta["val"].shape[dim]}
            if found is None:
                found = size
                continue
            product = module.graph.call_function(operator.mul, (found, size))
            product.meta = {"val": found.meta["val"] * size.meta["val"]}
            found = product
    assert found is not None
    return found
