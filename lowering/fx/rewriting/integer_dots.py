"""Products of quantized operands become products of integers.

A linear layer or convolution of two dequantized operands, as PT2E writes it, is scaled once, after the sum. A product of int8 that torchao
shifts to uint8 where the CPU of the export prefers that becomes the plain product, so that a program does not depend on that CPU.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.export import ExportedProgram
from torch.export.graph_signature import OutputKind
from torch.fx import Node

from lowering.fx import cleanup, exported
from lowering.fx.rewriting.decompose import decompose
from lowering.ir.quantized_types import LONGEST_BYTE_SUM
from lowering.ops.node_forms import find_argument
from lowering.ops.quantized import integer_products

aten = torch.ops.aten

_BYTES = (torch.int8, torch.uint8)
_WHOLE = ("quantized_decomposed::dequantize_per_tensor", "quantized_decomposed::dequantize_per_tensor.tensor")
_ROWS = ("quantized_decomposed::dequantize_per_token",)
_CHANNELS = ("quantized_decomposed::dequantize_per_channel",)
_CONVOLUTIONS = (*(getattr(getattr(aten, f"conv{rank}d"), form) for rank in (1, 2, 3) for form in ("default", "padding")),
                 aten.convolution.default)
_PRODUCTS = (integer_products.linear, integer_products.convolve)


def rewrite(program: ExportedProgram) -> int:
    """Rewrite the products in place, and return the number of layers. Layers of other dtypes or of longer sums stay as they are."""
    module, count = program.graph_module, 0
    _drop_zero_points(program)
    for body in list(cleanup.bodies(module)):
        is_shifted = False
        for node in list(cleanup.calls(body)):
            if (operands := _match_shifted(node)) is not None:
                with body.graph.inserting_before(node):
                    product = body.graph.call_function(aten._int_mm.default, operands)
                product.meta = dict(node.meta)
                node.replace_all_uses_with(product)
                body.graph.erase_node(node)
                is_shifted = True
                continue
            matched = _match(node) or _match_convolution(node)
            if matched is None:
                continue
            with body.graph.inserting_before(node):
                product = body.graph.call_function(*matched)
            product.meta = dict(node.meta)
            node.replace_all_uses_with(product)
            body.graph.erase_node(node)
            count += 1
        if is_shifted:
            body.graph.eliminate_dead_code()
    if count:
        decompose(module, lambda node: node.target if node.target in _PRODUCTS else None)
    return count


def _drop_zero_points(program: ExportedProgram) -> None:
    """Remove the zero points of weights that are all zero, as those of symmetric schemes are."""
    written = {spec.target for spec in program.graph_signature.output_specs if spec.kind is OutputKind.BUFFER_MUTATION}
    weights = {name: value for name, value in exported.collect_weights(program).items() if name not in written}
    held = {spec.arg.name: weights[spec.target] for spec in program.graph_signature.input_specs if spec.target in weights}
    for node in cleanup.calls(program.graph_module):
        if str(node.target) != "quantized_decomposed.dequantize_per_channel.default" or not isinstance(node.args[2], Node):
            continue
        points = held.get(node.args[2].name)
        if points is not None and not isinstance(points, FakeTensor) and not bool(points.any()):
            node.update_arg(2, None)


def _match(node: Node) -> tuple[Any, tuple[Any, ...]] | None:
    """Return the integer product that computes a linear layer and its arguments, or None if there is none."""
    if node.target is not aten.linear.default or node.meta["val"].dtype is not torch.float32:
        return None
    source, weight = node.args[:2]
    left, right = _read(source, (*_WHOLE, *_ROWS)), _read(weight, (*_WHOLE, *_CHANNELS))
    if left is None or right is None:
        return None
    length = right[0].meta["val"].shape[-1]
    if not isinstance(length, int) or length > LONGEST_BYTE_SUM:
        return None
    return integer_products.linear, (*left, *right, node.args[2] if len(node.args) > 2 else node.kwargs.get("bias"))


def _match_convolution(node: Node) -> tuple[Any, tuple[Any, ...]] | None:
    """Return the integer product that computes a convolution and its arguments, or None if there is none."""
    if node.target not in _CONVOLUTIONS or node.meta["val"].dtype is not torch.float32:
        return None
    source, stored, bias, stride, padding, dilation, groups = (
        find_argument(node, name) for name in ("input", "weight", "bias", "stride", "padding", "dilation", "groups"))
    left, right = _read(source, _WHOLE), _read(stored, (*_WHOLE, *_CHANNELS))
    if left is None or right is None or (node.target is aten.convolution.default and find_argument(node, "transposed")):
        return None
    weight, weight_scale, weight_zero = right
    shape = weight.meta["val"].shape
    is_symmetric = weight_zero is None or (isinstance(weight_zero, int) and weight_zero == 0)
    if not is_symmetric or weight.meta["val"].dtype is not torch.int8 or not all(isinstance(size, int) for size in shape):
        return None
    is_padded = padding == "same" or (not isinstance(padding, str) and any(padding))
    if math.prod(shape[1:]) > LONGEST_BYTE_SUM or (is_padded and not isinstance(left[2], int)):
        return None
    return integer_products.convolve, (*left, weight, weight_scale, bias, stride, padding, dilation, groups)


def _match_shifted(node: Node) -> tuple[Node, Node] | None:
    """Return int8 x and y of `_int_mm((x.to(int32) + 128).to(uint8), y) - y.sum(0, keepdim=True, dtype=int32) * 128`, or None."""
    product, correction = _read_arguments(node, aten.sub.Tensor, 2) or (None, None)
    shifted, right = _read_arguments(product, aten._int_mm.default, 2) or (None, None)
    total = _read_arguments(correction, aten.mul.Tensor, 2)
    left = _read_arguments(_cast(shifted, torch.uint8), aten.add.Tensor, 2)
    source = _cast(left[0], torch.int32) if left is not None and left[1] == integer_products.OFFSET else None
    if source is None or source.meta["val"].dtype is not torch.int8 or total is None or total[1] != integer_products.OFFSET:
        return None
    summed = _read_arguments(total[0], aten.sum.dim_IntList, 3)
    is_same = summed is not None and summed[0] is right and list(summed[1]) == [0] and summed[2] is True
    return (source, right) if is_same and right.meta["val"].dtype is torch.int8 and total[0].meta["val"].dtype is torch.int32 else None


def _read_arguments(node: Any, target: Any, count: int) -> tuple[Any, ...] | None:
    """Return the arguments of a node that calls `target` with `count` of them, or None."""
    return node.args if isinstance(node, Node) and node.target is target and len(node.args) == count else None


def _cast(node: Any, dtype: torch.dtype) -> Any:
    """Return the node whose value a node converts to a dtype, or None if it is no conversion."""
    if not isinstance(node, Node) or node.target not in (aten.to.dtype, aten._to_copy.default):
        return None
    return node.args[0] if node.meta["val"].dtype is dtype else None


def _read(node: Any, ops: tuple[str, ...]) -> tuple[Any, ...] | None:
    """Return (bytes, scale, zero point) of a dequantization to float32 by one of the ops."""
    if not isinstance(node, Node) or not isinstance(node.target, torch._ops.OpOverload) or node.target.name() not in ops:
        return None
    is_channels = node.target.name() in _CHANNELS
    stored = node.args[0]
    if not isinstance(stored, Node) or stored.meta["val"].dtype not in _BYTES or node.meta["val"].dtype is not torch.float32:
        return None
    return None if is_channels and node.args[3] != 0 else (stored, *node.args[1:3])
