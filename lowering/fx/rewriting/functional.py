"""Functionalize in-place ops of an FX graph without a retrace, where no other op can observe the write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch._export.config
from torch.fx import GraphModule, Node


def functionalize(module: GraphModule) -> bool:
    """Replace `x.add_(y)` by `x.add(y)` for each op that writes only to its first argument.

    Return False, with the graph unchanged, if one of them cannot be replaced.

    A replacement is sound only if the op alone uses the written tensor: it was made by an op that returns fresh memory, has the dtype and
    shape of the result, and no op views it. Writes to inputs, buffers or views need torch's own functionalization, which retraces.
    """
    written = [node for node in module.graph.nodes if node.op == "call_function" and writes(node.target)]
    replacements = [(node, _find_functional_form(node)) for node in written]
    if any(form is None for _, form in replacements):
        return False
    for node, form in replacements:
        _replace(module, node, form)
    return True


@contextmanager
def functionalize_whole_arguments() -> Iterator[None]:
    """Make a retrace functionalize ops that write their arguments on whole tensors, inside the block.

    A written view is scattered back by plain ops.
    """
    import torch._inductor.config  # takes most of a second, which a process that never retraces saves

    inductor, export = torch._inductor.config, torch._export.config
    off = {"enable_auto_functionalized_v2_for_export": False}
    with inductor.patch(enable_auto_functionalized_v2=False), export.patch(off):  # type: ignore[attr-defined]
        yield


def writes(target: Any) -> bool:
    return isinstance(target, torch._ops.OpOverload) and target._schema.is_mutable


def _find_functional_form(node: Node) -> torch._ops.OpOverload | None:
    op = node.target
    arguments = op._schema.arguments  # type: ignore[union-attr]
    written = node.args[0] if node.args else None
    if [argument.is_write for argument in arguments].count(True) != 1 or not arguments[0].is_write or not isinstance(written, Node):
        return None
    name = op._schema.name.removeprefix("aten::").rstrip("_")  # type: ignore[union-attr]
    form = _find_overload(name, _list_parameters(op))
    if form is None:
        return None
    is_viewed = any(views(user.target) for user in written.users if user is not node)
    alone = written.op == "call_function" and _is_fresh(written.target) and not is_viewed
    return form if alone and _keeps_type(node) else None


def _find_overload(name: str, parameters: list[tuple[str, str]]) -> torch._ops.OpOverload | None:
    """Return the overload of an op with these parameters. Its name may be another: that of `pow_.Scalar` is `pow.Tensor_Scalar`."""
    packet = getattr(torch.ops.aten, name, None)
    overloads = [getattr(packet, overload) for overload in packet.overloads()] if packet is not None else []
    return next((overload for overload in overloads if _list_parameters(overload) == parameters), None)


def _list_parameters(op: Any) -> list[tuple[str, str]]:
    return [(argument.name, str(argument.type)) for argument in op._schema.arguments]


def _is_fresh(target: Any) -> bool:
    """Return whether an op's result has its own memory.

    That of an in-place op counts too: the op's argument was checked when the op was visited.
    """
    return isinstance(target, torch._ops.OpOverload) and (not views(target) or writes(target))


def views(target: Any) -> bool:
    if not isinstance(target, torch._ops.OpOverload):
        return True  # getitem of a list of views, or an unknown target
    name = target._schema.name
    return any(result.alias_info is not None and not result.is_write for result in target._schema.returns) or name in _MAY_VIEW


# Ops whose result may share memory with their argument, although their schemas do not say so.
_MAY_VIEW = {
    f"aten::{name}" for name in (
        "reshape", "contiguous", "to", "flatten", "dropout", "conj", "real", "expand_as", "type_as", "unflatten",
    )
}  # fmt: skip


def _keeps_type(node: Node) -> bool:
    """Return whether the functional op keeps the dtype of the written tensor. Type promotion could widen it."""
    written = node.args[0].meta["val"]  # type: ignore[union-attr]
    others = [argument.meta["val"] for argument in node.all_input_nodes if isinstance(argument.meta.get("val"), torch.Tensor)]
    numbers = [argument for argument in node.args[1:] if isinstance(argument, float | complex)]
    return all(other.dtype == written.dtype for other in others) and (not numbers or written.dtype.is_floating_point)


def _replace(module: GraphModule, node: Node, form: torch._ops.OpOverload) -> None:
    written = node.args[0]
    with module.graph.inserting_before(node):
        result = module.graph.call_function(form, node.args, node.kwargs)
    result.meta = dict(node.meta)
    later = False
    for user in list(module.graph.nodes):
        if user is node:
            later = True
        elif later and user in written.users:  # type: ignore[union-attr]
            user.replace_input_with(written, result)  # type: ignore[arg-type]
    node.replace_all_uses_with(result)
    module.graph.erase_node(node)


def replace_views(module: GraphModule) -> None:
    """Replace each `view` by a `reshape`.

    A view may rely on strides that the real tensors do not have, if it was retraced or if an op before it was decomposed.
    """
    for node in module.graph.nodes:
        if node.target in (torch.ops.aten.view.default, torch.ops.aten._unsafe_view.default):
            node.target = torch.ops.aten.reshape.default
