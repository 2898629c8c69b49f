"""Functionalize custom ops that return an argument they write (`foo_(Tensor(a!) x) -> Tensor(a!)`, `foo.out`).

torch does not functionalize such ops. While the program is retraced, each is replaced by a stand-in op that takes the same arguments and
returns only the other results.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import Node

from lowering.fx import cleanup

_LIBRARY = torch.library.Library("shapeline_writes", "DEF")
_stand_ins: dict[torch._ops.OpOverload, torch._ops.OpOverload] = {}


@contextmanager
def hide_aliasing(captured: ExportedProgram) -> Iterator[list[ExportedProgram]]:
    """Replace such ops of `captured` by stand-ins inside the block.

    The caller appends the retraced programs to the yielded list. When the block ends, the stand-ins in them are turned back into the ops.
    """
    found = [node for body in cleanup.bodies(captured.graph_module) for node in cleanup.calls(body)
             if returns_written_argument(node.target)]
    for node in found:
        _hide(node)
    if found:
        captured.graph_module.recompile()
    results: list[ExportedProgram] = []
    yield results
    originals = {stand_in: op for op, stand_in in _stand_ins.items()}
    for program in results:
        for body in cleanup.bodies(program.graph_module):
            for node in list(cleanup.calls(body)):
                if node.target is torch.ops.higher_order.auto_functionalized and node.args[0] in originals:
                    _reveal(node, originals[node.args[0]])  # type: ignore[index]


def returns_written_argument(target: Any) -> bool:
    """Return whether a target is an op outside ATen that returns an argument it writes."""
    is_custom = isinstance(target, torch._ops.OpOverload) and target.namespace not in ("aten", "prim", "prims")
    return is_custom and any(result.is_write for result in target._schema.returns)


def _hide(node: Node) -> None:
    """Replace a call by a call of the stand-in. Users of a written result use the written argument instead."""
    op: Any = node.target
    with node.graph.inserting_before(node):
        made = node.graph.call_function(_get_stand_in(op), node.args, node.kwargs)
    others = [place for place, result in enumerate(op._schema.returns) if not result.is_write]
    values = node.meta["val"] if len(op._schema.returns) > 1 else (node.meta["val"],)
    kept = [values[place] for place in others]
    made.meta = {**node.meta, "val": kept[0] if len(kept) == 1 else tuple(kept) or None}
    written = {place: _find_argument(node, result) for place, result in enumerate(op._schema.returns) if result.is_write}
    if len(op._schema.returns) == 1:
        node.replace_all_uses_with(written[0])
    for user in list(node.users):  # every user of several results is a getitem
        place = user.args[1]
        if place in written:
            user.replace_all_uses_with(written[place])  # type: ignore[index]
        elif len(others) == 1:
            user.replace_all_uses_with(made)
        else:
            user.args = (made, others.index(place))  # type: ignore[arg-type]
            continue
        node.graph.erase_node(user)
    node.graph.erase_node(node)


def _find_argument(node: Node, result: Any) -> Any:
    """Return the argument that a result shares its memory with."""
    for place, formal in enumerate(node.target._schema.arguments):  # type: ignore[union-attr]
        if formal.alias_info is not None and formal.alias_info.before_set == result.alias_info.before_set:
            return node.args[place] if place < len(node.args) else node.kwargs[formal.name]
    raise KeyError(f"{node.target}: no argument of its schema shares memory with the result {result.type}")


def _get_stand_in(op: torch._ops.OpOverload) -> torch._ops.OpOverload:
    """Return the stand-in of an op, defined on first use."""
    if op not in _stand_ins:
        schema = op._schema
        name = "__".join(part for part in (*schema.name.split("::"), schema.overload_name) if part)
        taken = str(schema).partition("(")[2].rpartition(") -> ")[0]
        others = [place for place, result in enumerate(schema.returns) if not result.is_write]
        _LIBRARY.define(f"{name}({taken}) -> ({', '.join(str(schema.returns[place].type) for place in others)})")

        def run(*arguments: Any, **named: Any) -> Any:
            results = op(*arguments, **named)
            kept = [results[place] for place in others] if len(schema.returns) > 1 else []
            return kept[0] if len(kept) == 1 else tuple(kept) or None

        torch.library.register_fake(f"shapeline_writes::{name}", run, lib=_LIBRARY)
        _stand_ins[op] = getattr(torch.ops.shapeline_writes, name).default
    return _stand_ins[op]


def _reveal(node: Node, op: torch._ops.OpOverload) -> None:
    """Turn a call of a stand-in on copies back into a call of the op.

    The op's results are the values after writing; the copies follow them.
    """
    schema = op._schema
    others = [place for place, result in enumerate(schema.returns) if not result.is_write]
    written = [formal.name for formal in schema.arguments if formal.is_write and node.kwargs.get(formal.name) is not None]
    values, first = list(node.meta["val"]), max(len(others), 1)
    copies = dict(zip(written, values[first:], strict=True))
    sets = {str(formal.alias_info.before_set): formal.name for formal in schema.arguments if formal.is_write}
    kept = iter(values[: len(others)])
    results = [copies[sets[str(result.alias_info.before_set)]] if result.is_write else next(kept) for result in schema.returns]
    node.args = (op,)
    node.meta = {**node.meta, "val": (*results, *values[first:])}
    for user in list(node.users):
        if user.target is operator.getitem:
            place: int = user.args[1]  # type: ignore[assignment]
            user.args = (node, others[place] if place < len(others) else place - first + len(results))
