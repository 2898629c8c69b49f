"""Weights that PyTorch packed for the kernel of one CPU become pairs in bytes, which every program can unpack.

The layout depends on the CPU, so it is read from PyTorch itself: packing the digits of each element's index tells where the element goes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch.export import ExportedProgram
from torch.fx import Node

from lowering.errors import Problem, Unsupported
from lowering.fx import cleanup, exported
from lowering.fx.rewriting.decompose import decompose
from lowering.ir import source_lines
from lowering.ops.quantized import integer_products

aten = torch.ops.aten

_PRODUCT = aten._weight_int4pack_mm_for_cpu.default
_DIGIT = 16  # values of an element


def rewrite(program: ExportedProgram) -> None:
    """Rewrite products with packed weights in place, and the weights with them. Raises Unsupported for one that cannot be unpacked."""
    products = [node for node in cleanup.calls(program.graph_module) if node.target is _PRODUCT]
    if not products:
        return
    unpacked: dict[str, torch.Tensor] = {}
    targets = {spec.arg.name: spec.target for spec in program.graph_signature.input_specs if spec.target is not None}
    weights = exported.collect_weights(program)
    refused = [_explain(node, "its packed weight is no parameter or buffer that such products alone read") for node in products
               if targets.get(node.args[1].name) not in weights or not all(user.target is _PRODUCT for user in node.args[1].users)]
    if refused:
        raise Unsupported(refused)
    for node in products:
        packed = node.args[1]
        name = str(targets[packed.name])
        if name not in unpacked:
            unpacked[name] = _unpack(weights[name], node)
        with node.graph.inserting_before(node):
            plain = node.graph.call_function(integer_products.int4_mm, (node.args[0], packed, *node.args[2:]))
        plain.meta = dict(node.meta)
        node.replace_all_uses_with(plain)
        node.graph.erase_node(node)
    for name, pairs in unpacked.items():
        held: Any = program.state_dict if name in program.state_dict else program.constants
        held[name] = pairs
    decompose(program.graph_module, lambda node: node.target if node.target is integer_products.int4_mm else None)


def _unpack(packed: torch.Tensor, node: Node) -> torch.Tensor:
    """Return a weight of N rows and K columns, packed for this CPU, as (N, K / 2) bytes. Raises Unsupported if the layout is another."""
    if isinstance(packed, FakeTensor):
        raise Unsupported(_explain(node, "its packed weight has no values"))
    rows, columns = packed.shape[0], 2 * packed.shape[1]
    count = rows * columns
    index = torch.arange(count).reshape(rows, columns)
    low, high = torch.zeros(packed.shape, dtype=torch.int64), torch.zeros(packed.shape, dtype=torch.int64)
    power = 1
    while power < count:
        digits = aten._convert_weight_to_int4pack_for_cpu((index // power % _DIGIT).to(torch.int32), 1).to(torch.int64)
        low, high, power = low + digits % _DIGIT * power, high + digits // _DIGIT * power, power * _DIGIT
    found = torch.zeros(count, dtype=torch.int32)
    found[low.flatten()], found[high.flatten()] = (packed.flatten() % _DIGIT).int(), (packed.flatten() // _DIGIT).int()
    values = found.reshape(rows, columns)
    if not torch.equal(aten._convert_weight_to_int4pack_for_cpu(values, 1), packed):
        raise Unsupported(_explain(node, "its weight was not packed for this processor"))
    return (values[:, 0::2] + values[:, 1::2] * _DIGIT).to(torch.uint8)


def _explain(node: Node, cause: str) -> Problem:
    return Problem(f"{node.target} at {source_lines.find_fx_line(node)}", cause, "quantize with torchao's IntxWeightOnlyConfig instead")
