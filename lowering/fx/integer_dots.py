"""Linear layers of two dequantized operands, as PT2E writes them, become products of integers that are scaled once."""

from __future__ import annotations

from typing import Any

import torch
from torch.fx import GraphModule, Node

from lowering.fx import cleanup
from lowering.fx.decompose import decompose
from lowering.ops import integer_products

aten = torch.ops.aten

_BYTES = (torch.int8, torch.uint8)
_WHOLE = ("quantized_decomposed::dequantize_per_tensor", "quantized_decomposed::dequantize_per_tensor.tensor")
_ROWS = ("quantized_decomposed::dequantize_per_token",)
_CHANNELS = ("quantized_decomposed::dequantize_per_channel",)
_LONGEST = 1 << 14  # terms of a sum of products of bytes, corrected for zero points, that fits into int32


def rewrite(module: GraphModule) -> int:
    """Rewrite the layers in place, and return their number. Layers of other dtypes or of longer sums stay as they are."""
    count = 0
    for body in list(cleanup.bodies(module)):
        for node in list(cleanup.calls(body)):
            arguments = _match(node)
            if arguments is None:
                continue
            with body.graph.inserting_before(node):
                product = body.graph.call_function(integer_products.linear, arguments)
            product.meta = dict(node.meta)
            node.replace_all_uses_with(product)
            body.graph.erase_node(node)
            count += 1
    if count:
        decompose(module, lambda node: integer_products.linear if node.target is integer_products.linear else None)
    return count


def _match(node: Node) -> tuple[Any, ...] | None:
    """Return the arguments of the integer product that computes a node, or None if there is none."""
    if node.target is not aten.linear.default or node.meta["val"].dtype is not torch.float32:
        return None
    source, weight = node.args[:2]
    left, right = _read(source, (*_WHOLE, *_ROWS)), _read(weight, (*_WHOLE, *_CHANNELS))
    if left is None or right is None:
        return None
    length = right[0].meta["val"].shape[-1]
    if not isinstance(length, int) or length > _LONGEST:
        return None
    return (*left, *right, node.args[2] if len(node.args) > 2 else node.kwargs.get("bias"))


def _read(node: Any, ops: tuple[str, ...]) -> tuple[Any, ...] | None:
    """Return (bytes, scale, zero point) of a dequantization to float32 by one of the ops."""
    if not isinstance(node, Node) or not isinstance(node.target, torch._ops.OpOverload) or node.target.name() not in ops:
        return None
    is_channels = node.target.name() in _CHANNELS
    stored = node.args[0]
    if not isinstance(stored, Node) or stored.meta["val"].dtype not in _BYTES or node.meta["val"].dtype is not torch.float32:
        return None
    return None if is_channels and node.args[3] != 0 else (stored, *node.args[1:3])
