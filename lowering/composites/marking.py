"""Marks around the composites of an FX graph, see `lowering.custom.marks`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch.fx import GraphModule, Node

from lowering.composites import table
from lowering.composites.matches import Match
from lowering.custom import marks
from lowering.ir import source_lines


@dataclass(frozen=True)
class Unmarked:
    """An op that was to be a composite and stays plain, with the cause and the user line."""

    op: str
    cause: str
    line: str


def mark(module: GraphModule, composites: Mapping[str, str]) -> list[Unmarked]:
    """Mark each composite of a graph, in place, and return the ops that cannot be composites.

    Bodies of branches and loops are left as they are.

    composites: the name that a composite gets, by its key in `table.FORMS` or by the name of an op.
    """
    unmarked: list[Unmarked] = []
    taken: set[Node] = set()
    number = 0
    for key, name in sorted(composites.items(), key=lambda item: _rank(item[0])):
        for node in reversed(list(module.graph.nodes)):  # the root of a form comes after all else in it
            if node.op != "call_function" or node in taken:
                continue
            try:
                found = table.match(node, key)
            except table.Formless as error:
                unmarked.append(Unmarked(str(node.target), str(error), str(source_lines.find_model_line(node) or "")))
                continue
            if found is not None and taken.isdisjoint(found.inner):
                _insert(found, number, name)
                taken |= found.inner | {node}
                number += 1
    if number:
        module.graph.lint()
        module.recompile()
    return unmarked


def _rank(key: str) -> int:
    """Return the position of a form in the table. The user's own ops come first."""
    return list(table.FORMS).index(key) if key in table.FORMS else -1


def _insert(match: Match, number: int, name: str) -> None:
    """Insert the marks of one composite."""
    graph, inside = match.root.graph, match.inner | {match.root}
    order = [node for node in graph.nodes if node in inside]
    for index, (role, operand) in enumerate(match.operands.items()):
        users = [node for node in order if operand in node.all_input_nodes]
        with graph.inserting_before(users[0]):
            marked = _create(match.root, marks.operand, (operand, number, index), operand)
        if users == [match.root] and not match.inner:
            _replace_argument(match.root, role, marked)
        else:
            for user in users:
                user.replace_input_with(operand, marked)
    attributes = {**match.attributes, "operands": list(match.operands)}
    with graph.inserting_after(match.root):
        marked = _create(match.root, marks.result, (match.root, number, name, json.dumps(attributes)), match.root)
    match.root.replace_all_uses_with(marked, delete_user_cb=lambda user: user is not marked)


def _replace_argument(node: Node, name: str, by: Node) -> None:
    """Replace the argument of that name alone: two arguments may be the same node."""
    for position, formal in enumerate(node.target._schema.arguments):  # type: ignore[union-attr]
        if formal.name == name:
            if position < len(node.args):
                node.update_arg(position, by)
            else:
                node.update_kwarg(name, by)


def _create(root: Node, op: Any, arguments: tuple[Any, ...], like: Node) -> Node:
    """Create a mark at the insertion point, with the value of `like` and the user line of the composite."""
    created = root.graph.call_function(op, arguments)
    created.meta["val"] = like.meta["val"]
    for key in ("stack_trace", "nn_module_stack"):
        if key in root.meta:
            created.meta[key] = root.meta[key]
    return created
