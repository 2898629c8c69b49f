"""Replace the ops that stand for calls by copies of the graph that was traced for another call."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch.export import ExportedProgram
from torch.export._trace import _fixup_key, _strip_root
from torch.fx import Graph, Node
from torch.fx.graph import _Namespace
from torch.fx.node import map_arg

from lowering.fx import cleanup, results
from lowering.fx.replay import marker
from lowering.fx.replay.agreement import is_size
from lowering.fx.replay.tracing import TAG, Replay, Replays

_NUMBER = re.compile(r"_\d+$")


class Escaped(Exception):
    """A tensor inside a call was used outside of it, beside its results."""


def expand(program: ExportedProgram, replays: Replays) -> None:
    """Replace all marks in a captured program, and number its nodes in order: torch's numbers count nodes that it has removed.

    Raises Escaped if a mark cannot be replaced, with the program in an unknown state.
    """
    copied = 0
    for body in cleanup.bodies(program.graph_module):
        if replays.replays:
            copied += _expand(body.graph, replays.replays)
        _rename(body.graph)
    if copied != len(replays.replays):
        raise Escaped(f"{len(replays.replays)} calls were replayed, and {copied} are in the graph")
    results.rename_results(program)
    program.graph_module.recompile()


def _expand(graph: Graph, replays: Mapping[int, Replay]) -> int:
    """Replace the calls in a graph, and return how many there were."""
    marked = _list_templates(graph)
    templates = {node.args[2]: node for node in graph.nodes if node.target is marker.TEMPLATE}
    places = {replay.template.number: replay.template.places for replay in replays.values()}
    for number, node in templates.items():
        nodes = marked.get(number, [])  # type: ignore[arg-type]
        _name_inputs(node, nodes, places[number])  # type: ignore[index]
        _check_inside(node, set(nodes))
    calls = [node for node in graph.nodes if node.target is marker.CALL]
    for node in calls:
        replay = replays[node.args[2]]  # type: ignore[index]
        if node.args[1] not in templates:
            raise Escaped(f"{replay.path} and {replay.template.occurrence.path} are in different graphs")
        _copy(node, templates[node.args[1]], marked[node.args[1]], replay)  # type: ignore[index]
    for node in templates.values():
        graph.erase_node(node)
    for nodes in marked.values():
        for node in nodes:
            node.meta.pop(TAG, None)
    return len(calls)


def _list_templates(graph: Graph) -> dict[int, list[Node]]:
    """Return the nodes of each template by its number: all between its first and its last, as torch adds assertions to a traced graph."""
    found: dict[int, list[Node]] = {}
    added: list[Node] = []  # since the last node of a template
    for node in graph.nodes:
        if node.op == "placeholder":  # of a body, with the record of the value outside
            node.meta.pop(TAG, None)
        if TAG not in node.meta:
            added.append(node)
            continue
        number = node.meta[TAG][0]
        if number not in found:
            asserted = itertools.takewhile(partial(_is_asserted, node), reversed(added))
            added = list(asserted)[::-1]
        found.setdefault(number, []).extend([*added, node])
        added = []
    return found


def _is_asserted(node: Node, before: Node) -> bool:
    """Return whether `before` asserts the type of an input of `node`."""
    return before.target is torch.ops.aten._assert_tensor_metadata.default and before.args[0] in node.all_input_nodes


def _name_inputs(template: Node, nodes: list[Node], places: tuple[int, ...]) -> None:
    """Let later ops use an input itself where they use a node inside that returned it as it was."""
    inside = {*nodes, template}
    for node in nodes:
        place = node.meta.get(TAG, (None, None))[1]
        if place is not None:
            node.replace_all_uses_with(template.args[0][places.index(place)], lambda user: user not in inside)  # type: ignore[index, arg-type]


def _check_inside(template: Node, nodes: set[Node]) -> None:
    given, made = (set(template.args[place]) for place in (0, 1))  # type: ignore[arg-type]
    for node in nodes:
        if outer := [source for source in node.all_input_nodes if source not in nodes and source not in given and not is_size(source)]:
            raise Escaped(f"{node} uses {outer[0]}, which is outside of the call")
        outer = [user for user in node.users if user not in nodes and user is not template]
        if outer and node not in made and not is_size(node):
            raise Escaped(f"{node} is used outside of the call, by {outer[0]}")


def _copy(call: Node, template: Node, nodes: list[Node], replay: Replay) -> None:
    """Replace a call by copies of the template's nodes, with the inputs of the call."""
    graph = call.graph
    copies: dict[Node, Node] = dict(zip(template.args[0], call.args[0], strict=True))  # type: ignore[arg-type]
    stacks: dict[tuple[Any, ...], dict[str, Any]] = {}
    with graph.inserting_before(call):
        for node in nodes:
            args, kwargs = map_arg((node.args, node.kwargs), lambda source: copies.get(source, source))
            made = graph.create_node(node.op, node.target, args, kwargs, name=node.name, type_expr=node.type)
            made.meta = {key: value for key, value in node.meta.items() if key != TAG}
            stack = made.meta.get("nn_module_stack", {})
            if tuple(stack) not in stacks:
                stacks[tuple(stack)] = dict(_move(key, value, replay) for key, value in stack.items())
            made.meta["nn_module_stack"] = stacks[tuple(stack)]
            copies[node] = made
    for user in list(call.users):  # every user of a list is a getitem
        user.replace_all_uses_with(copies[template.args[1][user.args[1]]])  # type: ignore[index]
        graph.erase_node(user)
    graph.erase_node(call)


def _move(key: str, value: tuple[str, Any], replay: Replay) -> tuple[str, tuple[str, Any]]:
    """Return an entry of `nn_module_stack` as a trace of the call would have made it."""
    occurrence = replay.template.occurrence
    path, kind = value
    old, new = _strip_root(occurrence.path), _strip_root(replay.path)
    if path != old and not path.startswith(f"{old}."):
        return key, value
    below = path.removeprefix(old)
    times = int(key.rpartition("@")[2]) if "@" in key else 0
    times += replay.calls.get(below, 0) - occurrence.calls.get(below, (0, 0))[0]
    return _fixup_key(new + below) + (f"@{times}" if times else ""), (new + below, kind)


def _rename(graph: Graph) -> None:
    """Number the ops in order, as a trace does. Other nodes keep their names, which signatures have: one may be a builtin's, `input`."""
    names = _Namespace()
    fixed = [node for node in graph.nodes if node.op in ("placeholder", "get_attr", "output")]
    for node in fixed:
        names.associate_name_with_obj(node.name, node)
        names._used_names.add(node.name)
    for node in graph.nodes:
        if node.op not in ("placeholder", "get_attr", "output"):
            node.name = names.create_name(_NUMBER.sub("", node.name), node)
    graph._graph_namespace = names
