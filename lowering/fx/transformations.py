"""Transformations of an exported FX graph, for the stage `transform`. Each takes and returns a GraphModule.

The program's tensor constants are attributes. `meta["argument"]` of each placeholder is its kind: `parameter`, `buffer`, `input`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.fx import GraphModule, Node

aten = torch.ops.aten


def fold_constants(module: GraphModule, max_elements: int = 1 << 16) -> GraphModule:
    """Replace nodes that depend only on tensor constants and numbers by their values.

    Results of more than `max_elements` elements and random ops are kept.
    """
    known: dict[Node, Any] = {node: getattr(module, str(node.target)) for node in module.graph.nodes if node.op == "get_attr"}
    for node in list(module.graph.nodes):
        is_known = all(source in known for source in node.all_input_nodes)
        if node.op != "call_function" or not _is_foldable(node, max_elements) or not is_known:
            continue
        args, kwargs = torch.fx.node.map_arg((node.args, node.kwargs), known.__getitem__)
        with torch.no_grad():
            known[node] = node.target(*args, **kwargs)  # type: ignore[operator]
        name = f"folded_{node.name}"
        module.register_buffer(name, known[node].contiguous())
        with module.graph.inserting_before(node):
            constant = module.graph.get_attr(name)
        constant.meta = {key: value for key, value in node.meta.items() if key in ("val", "stack_trace", "nn_module_stack")}
        known[constant] = known[node]
        node.replace_all_uses_with(constant)
        module.graph.erase_node(node)
    module.graph.eliminate_dead_code()
    return module


def _is_foldable(node: Node, max_elements: int) -> bool:
    value = node.meta.get("val")
    if not isinstance(node.target, torch._ops.OpOverload) or not isinstance(value, torch.Tensor):
        return False
    is_static = all(isinstance(size, int) for size in value.shape)
    return is_static and value.numel() <= max_elements and torch.Tag.nondeterministic_seeded not in node.target.tags


def remove_dead_inputs(module: GraphModule) -> GraphModule:
    """Remove parameters, buffers and constants that no node reads. Inputs are kept, since callers pass them."""
    module.graph.eliminate_dead_code()
    for node in list(module.graph.nodes):
        is_weight = node.op == "get_attr" or (node.op == "placeholder" and node.meta.get("argument") in ("parameter", "buffer"))
        if is_weight and not node.users:
            module.graph.erase_node(node)
    return module


def remove_noop_views(module: GraphModule) -> GraphModule:
    """Remove reshapes, expansions, slices, casts and copies whose result equals their argument, dynamic dims included.

    A copy that changes the memory layout is kept, because a later view may need it.
    """
    for node in list(module.graph.nodes):
        if node.op == "call_function" and node.target in _NOOPS and _changes_nothing(node):
            node.replace_all_uses_with(node.args[0])  # type: ignore[arg-type]
            module.graph.erase_node(node)
    return module


# Each of these keeps the elements in order, so it is the identity if dtype and shape stay the same and the condition holds.
_NOOPS: dict[Any, Callable[[Node], bool]] = {
    **dict.fromkeys((
        aten.view.default, aten.reshape.default, aten._unsafe_view.default, aten.expand.default, aten.flatten.using_ints,
        aten.clone.default, aten.alias.default, aten.detach.default, aten.contiguous.default, aten.squeeze.dim, aten.squeeze.dims,
        aten.lift_fresh_copy.default, aten.to.dtype, aten.to.dtype_layout, aten._to_copy.default,
    ), lambda node: True),
    aten.slice.Tensor: lambda node: len(node.args) < 5 or node.args[4] == 1,
    aten.permute.default: lambda node: list(node.args[1]) == sorted(node.args[1]),  # type: ignore[arg-type, type-var]
    aten.dropout.default: lambda node: node.args[2] is False,
}  # fmt: skip


def _changes_nothing(node: Node) -> bool:
    source, result = node.args[0].meta["val"], node.meta["val"]  # type: ignore[union-attr]
    same = source.dtype == result.dtype and source.device == result.device and _read_layout(source) == _read_layout(result)
    return same and _NOOPS[node.target](node)


def _read_layout(tensor: torch.Tensor) -> list[Any]:
    return [size.node.expr if isinstance(size, torch.SymInt) else size for size in (*tensor.shape, *tensor.stride())]
