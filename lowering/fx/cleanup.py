"""Clean up FX graphs without a retrace: inline wrapper regions and remove ops that do nothing at inference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from typing import Any

import sympy
import torch
from torch.fx import GraphModule, Node
from torch.utils._pytree import tree_leaves

from lowering import types
from lowering.errors import Problem
from lowering.ir import source_lines

# Regions that only change global state, which tracing has already applied -> the position of the submodule in the node's arguments.
_WRAPPERS = {"wrap_with_set_grad_enabled": 1, "wrap_with_autocast": 4}


def is_functional(module: GraphModule) -> bool:
    """Return whether the graph writes to no argument and has no wrapper region or functorch transform left.

    Bodies of control flow are included.
    """
    for node in (node for body in bodies(module) for node in calls(body)):
        schema = getattr(node.target, "_schema", None)
        if schema is not None and schema.is_mutable:
            return False
        if _body_position(node) is not None or _is_transform(node.target):
            return False
    return True


def _is_transform(target: Any) -> bool:
    """Return whether a call belongs to a transform of torch.func (vmap, grad), which a retrace resolves."""
    return str(getattr(target, "__module__", "")).startswith(("torch._functorch", "torch._C._functorch"))


def calls(module: GraphModule) -> Iterator[Node]:
    """Yield the `call_function` nodes of a graph."""
    return (node for node in module.graph.nodes if node.op == "call_function")


def count_targets(module: GraphModule) -> dict[str, int]:
    """Count the calls of each target in a graph."""
    return dict(Counter(str(node.target) for node in calls(module)))


def bodies(module: GraphModule) -> Iterator[GraphModule]:
    """Yield the graph itself, then the graphs of the branches and loops in it."""
    yield module
    for node in module.graph.nodes:
        held = getattr(module, str(node.target), None) if node.op == "get_attr" else None
        if isinstance(held, GraphModule):
            yield from bodies(held)


def reads_subclasses(module: GraphModule) -> bool:
    """Return whether the graph reads the tensors that a weight of a tensor subclass holds."""
    return any(getattr(node.target, "name", lambda: "")() == "export::access_subclass_inner_tensor"
               for body in bodies(module) for node in calls(body))


def has_data_dependent_sizes(module: GraphModule) -> bool:
    """Return whether an op produces a size or a number that depends on the values of tensors."""
    return any(node.meta.get("unbacked_bindings") for body in bodies(module) for node in body.graph.nodes)


def find_flex_attention(module: GraphModule) -> list[Problem]:
    """Report each `flex_attention` of a strict capture, with its user line. Other captures have it in plain ops."""
    return [
        Problem(f"flex_attention at {source_lines.find_model_line(node) or 'an unknown line'}", "has no lowering",
                "use scaled_dot_product_attention, and pass the mask plus the bias that score_mod adds as attn_mask")
        for body in bodies(module) for node in calls(body) if getattr(node.target, "__name__", "") == "flex_attention"
    ]  # fmt: skip


def find_foreign_dtypes(module: GraphModule) -> list[Problem]:
    """Report each op whose result has a dtype that no level can hold, with its user line."""
    return [
        Problem(f"{node.target} at {source_lines.find_model_line(node) or 'an unknown line'}",
                f"gives {value.dtype}, which no level can hold",
                types.UNPACK)
        for body in bodies(module) for node in calls(body) for value in tree_leaves(node.meta.get("val"))
        if isinstance(value, torch.Tensor) and types.dtype_name(value.dtype) not in types.DTYPES
    ]  # fmt: skip


def inline_wrappers(module: GraphModule, detach: bool = False) -> int:
    """Replace wrapper regions by their bodies, and return how many were replaced.

    A region is kept if its body would compute something else outside of it.

    detach: detach the arguments and results of regions without gradients, for a graph that is differentiated later.
    """
    count = 0
    for node in list(calls(module)):
        position = _body_position(node)
        if position is None or (position == 4 and node.args[2]):  # an enabled autocast region inserts casts when it is retraced
            continue
        body = getattr(module, str(node.args[position].target))  # type: ignore[union-attr]
        count += 1 + inline_wrappers(body, detach)
        detaches = detach and position == 1 and not node.args[0]
        with module.graph.inserting_before(node):
            given = [_detach(argument) if detaches else argument for argument in node.args[position + 1 :]]
            mapping = dict(zip((n for n in body.graph.nodes if n.op == "placeholder"), given, strict=True))
            outputs: Any = module.graph.graph_copy(body.graph, mapping)  # type: ignore[arg-type]
            for attribute in (n for n in body.graph.nodes if n.op == "get_attr"):
                copied = mapping[attribute]
                copied.target = f"{node.name}_{attribute.target}"  # type: ignore[union-attr]
                setattr(module, copied.target, getattr(body, attribute.target))  # type: ignore[union-attr]
            if detaches:
                outputs = tuple(_detach(output) for output in outputs)
        _replace_items(node, outputs)
        module.graph.erase_node(node)
    if count:
        module.graph.eliminate_dead_code()
    return count


def _detach(output: Any) -> Any:
    if not isinstance(output, Node) or not isinstance(output.meta["val"], torch.Tensor):
        return output
    result = output.graph.call_function(torch.ops.aten.detach.default, (output,))
    result.meta = dict(output.meta)
    return result


def _replace_items(node: Node, outputs: Any) -> None:
    for user in list(node.users):  # every user is a getitem
        user.replace_all_uses_with(outputs[user.args[1]])
        user.graph.erase_node(user)


def _body_position(node: Node) -> int | None:
    """Return the position of the body among a wrapper region's arguments, or None for other nodes."""
    return _WRAPPERS.get(str(getattr(node.target, "_name", None) or node.target))


def drop_assertions(module: GraphModule, proved: Collection[str] = ()) -> int:
    """Remove assertions that no shape can violate, and return how many were removed.

    These are assertions on metadata, which tracing has checked, on storage offsets, and on conditions that are `proved`.
    """
    count = 0
    for body in bodies(module):
        dropped = [node for node in calls(body)
                   if node.target is torch.ops.aten._assert_tensor_metadata.default or _asserts_storage_offset(node)
                   or _is_proved(node, proved)]
        for node in dropped:
            body.graph.erase_node(node)
        if dropped:
            body.graph.eliminate_dead_code()
        count += len(dropped)
    return count


def drop_copies_to_self(module: GraphModule) -> None:
    """Remove copies of the result of an in-place op to the tensor that it wrote, as torch adds them for `self.count += 1`.

    They would count as a change of a tensor that autograd keeps for a gradient.
    """
    for node in module.graph.find_nodes(op="call_function", target=torch.ops.aten.copy_.default):
        target, source = node.args[:2]
        if isinstance(source, Node) and _is_in_place(source.target) and source.args[0] is target:
            node.replace_all_uses_with(source)
            module.graph.erase_node(node)


def _is_in_place(op: Any) -> bool:
    """Return whether an op writes to its first argument and returns it, as `add_` does, and not to an `out`."""
    return isinstance(op, torch._ops.OpOverload) and op._schema.name.endswith("_") and op._schema.arguments[0].is_write


def fold_conjugates(module: GraphModule) -> None:
    """Replace the conjugates of numbers by numbers: autograd takes those of the constant factors of complex tensors."""
    for body in bodies(module):
        for node in body.graph.find_nodes(op="call_function", target=torch.ops.aten._conj.default):
            if isinstance(node.args[0], complex):
                node.replace_all_uses_with(node.args[0].conjugate())
                body.graph.erase_node(node)


def drop_all_assertions(module: GraphModule) -> None:
    """Remove every assertion on sizes and numbers, and compile the graph again."""
    for body in bodies(module):
        for node in [node for node in calls(body) if node.target is torch.ops.aten._assert_scalar.default]:
            body.graph.erase_node(node)
        body.recompile()


def _is_proved(node: Node, proved: Collection[str]) -> bool:
    """Return whether a node asserts one of the conditions `proved`, or a condition that is true by tracing."""
    condition = read_assertion(node)
    return condition is sympy.true or (condition is not None and str(condition) in proved)


def read_assertion(node: Node) -> sympy.Basic | None:
    """Return the condition on sizes that a node asserts, or None for any other node."""
    if node.target is not torch.ops.aten._assert_scalar.default:
        return None
    condition = node.args[0].meta.get("val") if isinstance(node.args[0], Node) else node.args[0]
    if isinstance(condition, torch.SymBool):
        return condition.node.expr  # type: ignore[no-any-return]
    return sympy.true if condition is True else None


def _asserts_storage_offset(node: Node) -> bool:
    """Return whether a node asserts something of a storage offset, which no later level knows."""
    if node.target is not torch.ops.aten._assert_scalar.default:
        return False
    pending = node.all_input_nodes
    while pending:
        source = pending.pop()
        if source.target is torch.ops.aten.sym_storage_offset.default:
            return True
        pending += source.all_input_nodes if isinstance(source.meta.get("val"), torch.SymInt | torch.SymBool) else []
    return False
