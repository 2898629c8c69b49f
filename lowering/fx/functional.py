"""In-place ops of an FX graph made functional without a retrace, where it is plain to see that nothing else can notice."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch._export.config
from torch.fx import GraphModule, Node


def functionalize(module: GraphModule) -> bool:
    """Replace `x.add_(y)` by `x.add(y)` for each op that writes only to its first argument; False if one could not be, graph untouched.

    Sound only where the written tensor is the op's alone: made by an op that returns fresh memory, of the same dtype and shape as the
    result, and not viewed by any op. What writes to inputs, buffers or views needs torch's own functionalization, which retraces.
    """
    written = [node for node in module.graph.nodes if node.op == "call_function" and writes(node.target)]
    replacements = [(node, _functional_form(node)) for node in written]
    if any(form is None for _, form in replacements):
        return False
    for node, form in replacements:
        _replace(module, node, form)
    return True


@contextmanager
def whole_arguments() -> Iterator[None]:
    """Inside, a retrace makes an op that writes its arguments functional on whole tensors: a written view is scattered back by plain ops."""
    import torch._inductor.config  # most of a second, which a process that retraces nothing does without

    inductor, export = torch._inductor.config, torch._export.config
    with inductor.patch(enable_auto_functionalized_v2=False), export.patch(enable_auto_functionalized_v2_for_export=False):  # type: ignore[attr-defined]
        yield


def writes(target: Any) -> bool:
    return isinstance(target, torch._ops.OpOverload) and target._schema.is_mutable


def _functional_form(node: Node) -> torch._ops.OpOverload | None:
    op = node.target
    arguments = op._schema.arguments  # type: ignore[union-attr]
    written = node.args[0] if node.args else None
    if [argument.is_write for argument in arguments].count(True) != 1 or not arguments[0].is_write or not isinstance(written, Node):
        return None
    form = getattr(getattr(torch.ops.aten, op._schema.name.removeprefix("aten::").rstrip("_"), None), op._overloadname, None)  # type: ignore[union-attr]
    if form is None or [argument.name for argument in form._schema.arguments] != [argument.name for argument in arguments]:
        return None
    alone = written.op == "call_function" and _is_fresh(written.target) and not any(views(user.target) for user in written.users if user is not node)
    return form if alone and _keeps_type(node) else None


def _is_fresh(target: Any) -> bool:
    """Whether an op's result is memory of its own (an in-place op's is its argument's, which was checked when it was reached)."""
    return isinstance(target, torch._ops.OpOverload) and (not views(target) or writes(target))


def views(target: Any) -> bool:
    if not isinstance(target, torch._ops.OpOverload):
        return True  # getitem of a list of views, or what this file does not know
    name = target._schema.name
    return any(result.alias_info is not None and not result.alias_info.is_write for result in target._schema.returns) or name in _MAY_VIEW


# Ops whose result may or may not share memory with their argument; their schemas do not say.
_MAY_VIEW = {f"aten::{name}" for name in ("reshape", "contiguous", "to", "flatten", "dropout", "conj", "real", "expand_as", "type_as", "unflatten")}


def _keeps_type(node: Node) -> bool:
    """Whether the functional op gives the dtype that the written tensor has: type promotion could widen it."""
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


def free_of_strides(module: GraphModule) -> None:
    """`view` as `reshape`: a view may rest on strides that real tensors have not, where it was traced anew or an op before it was decomposed."""
    for node in module.graph.nodes:
        if node.target in (torch.ops.aten.view.default, torch.ops.aten._unsafe_view.default):
            node.target = torch.ops.aten.reshape.default
