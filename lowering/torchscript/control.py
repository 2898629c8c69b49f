"""Convert higher-order ops of FX to TorchScript's blocks: `cond` -> `prim::If`; `while_loop`, `scan` and `map` -> `prim::Loop`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch.fx import Node

from lowering.torchscript.builder import Builder

Value: TypeAlias = torch._C.Value

FOREVER = 2**63 - 1  # the trip count of a loop that only its condition ends


def cond(builder: Builder, node: Node) -> list[Value]:
    """Convert `cond(predicate, true_graph, false_graph, operands)`."""
    predicate, accepted, refused, operands = node.args[:4]
    choice = builder.graph.create("prim::If", [_as_bool(builder, node, builder.scalar(predicate))], 0)
    builder.insert(node, choice)
    given = [builder.scalar(operand) for operand in operands]  # type: ignore[union-attr]
    for body in (accepted, refused):
        block = choice.addBlock()
        with builder.inside(block):
            for result in builder.region(builder.get_value(body), given):
                block.registerOutput(result)
    return _add_outputs(builder, choice, node)


def while_loop(builder: Builder, node: Node) -> list[Value]:
    """Convert `while_loop(condition_graph, body_graph, carried, additional)`.

    The condition is computed before the loop and at the end of each iteration.
    """
    condition, body, carried, additional = (builder.get_value(argument) for argument in node.args[:4])
    start = [builder.scalar(value) for value in carried]
    more = [builder.scalar(value) for value in additional]
    first = _as_bool(builder, node, builder.region(condition, [*start, *more])[0])
    loop, block = _insert_loop(builder, node, builder.constant(FOREVER), first, start)
    with builder.inside(block):
        values = list(block.inputs())[1:]
        turned = builder.region(body, [*values, *more])
        again = _as_bool(builder, node, builder.region(condition, [*turned, *more])[0])
        _end_iteration(block, again, turned)
    return _add_outputs(builder, loop, node)


def scan(builder: Builder, node: Node) -> list[Value]:
    """Convert `scan(combine_graph, init, xs, additional)`.

    An iteration takes the carried values and one slice of each xs along dim 0. It returns the carried values and one slice of each result.
    """
    combine, init, stacked, additional = (builder.get_value(argument) for argument in node.args[:4])
    carried = [builder.scalar(value) for value in init]
    results = list(node.meta["val"])
    return _build_loop(builder, node, combine, carried, [builder.scalar(value) for value in stacked], additional, results)


def map_(builder: Builder, node: Node) -> list[Value]:
    """Convert `map(body_graph, xs, additional)`.

    An iteration takes one slice of each xs along dim 0, and returns one slice of each result.
    """
    body, stacked, additional = (builder.get_value(argument) for argument in node.args[:3])
    return _build_loop(builder, node, body, [], [builder.scalar(value) for value in stacked], additional, list(node.meta["val"]))


def _build_loop(builder: Builder, node: Node, body: torch.fx.GraphModule, carried: list[Value], stacked: list[Value],
                 additional: Sequence[Any], results: list[Any]) -> list[Value]:
    """Build a loop over dim 0 of `stacked`. Each iteration writes its slice of every result that is not carried."""
    zero, more = builder.constant(0), [builder.scalar(value) for value in additional]
    count = _insert(builder, node, "aten::size", [stacked[0], zero], torch._C.IntType.get())
    pairs = zip(results[len(carried) :], _read_slices(body, len(carried)), strict=True)
    made = [_insert_zeros(builder, node, count, value, result) for value, result in pairs]
    loop, block = _insert_loop(builder, node, count, builder.constant(True), [*carried, *made])
    with builder.inside(block):
        iteration, *values = block.inputs()
        taken = [_read_row(builder, node, value, iteration) for value in stacked]
        turned = builder.region(body, [*values[: len(carried)], *taken, *more])
        for position, target in enumerate(values[len(carried) :], len(carried)):
            turned[position] = _write_row(builder, node, target, turned[position], iteration)
        _end_iteration(block, builder.constant(True), turned)
    return _add_outputs(builder, loop, node)


def _read_slices(body: torch.fx.GraphModule, carried: int) -> list[Any]:
    """Return the results of one iteration of the body, as FX values, without the carried ones."""
    returned = next(node for node in body.graph.nodes if node.op == "output").args[0]
    return [result.meta["val"] for result in returned[carried:]]


def _insert_zeros(builder: Builder, node: Node, count: Value, value: torch.Tensor, slice_: torch.Tensor) -> Value:
    """Insert zeros of the shape of a stacked result.

    Its dims after the first are ints, or sizes of tensors that exist before the loop.
    """
    sizes = [count, *(builder.size(size) for size in slice_.shape)]
    listed = _insert(builder, node, "prim::ListConstruct", sizes, torch._C.ListType(torch._C.IntType.get()))
    none = builder.constant(None)
    settings = [builder.constant(0), builder.constant(value.dtype), none, none, none]
    return _insert(builder, node, "aten::full", [listed, *settings], builder.type(value))


def _write_row(builder: Builder, node: Node, target: Value, row: Value, iteration: Value) -> Value:
    """Insert a copy of `target` with `row` at index `iteration` of dim 0."""
    return _insert(builder, node, "aten::select_scatter", [target, row, builder.constant(0), iteration], target.type())


def _read_row(builder: Builder, node: Node, value: Value, iteration: Value) -> Value:
    """Gather slice `iteration` of dim 0: a slice at a variable index has no lowering."""
    zero, rest = builder.constant(0), value.type().varyingSizes()[1:]  # type: ignore[attr-defined]
    long = torch._C.TensorType.get().with_dtype(torch.int64)  # type: ignore[attr-defined]
    place = _insert(builder, node, "prim::NumToTensor", [iteration], long.with_sizes([]))
    places = _insert(builder, node, "aten::unsqueeze", [place, zero], long.with_sizes([1]))
    one_row = value.type().with_sizes([1, *rest])  # type: ignore[attr-defined]
    rows = _insert(builder, node, "aten::index_select", [value, zero, places], one_row)
    return _insert(builder, node, "aten::squeeze", [rows, zero], value.type().with_sizes(rest))  # type: ignore[attr-defined]


def _insert(builder: Builder, node: Node, kind: str, inputs: list[Value], type_: torch._C.Type) -> Value:
    created = builder.graph.create(kind, inputs, 1)
    builder.insert(node, created)
    created.output().setType(type_)
    return created.output()


def _insert_loop(builder: Builder, node: Node, count: Value, first: Value, carried: list[Value]) -> tuple[torch._C.Node, torch._C.Block]:
    """Insert a loop whose block takes the iteration number and the carried values."""
    loop = builder.graph.create("prim::Loop", [count, first, *carried], 0)
    builder.insert(node, loop)
    block = loop.addBlock()
    block.addInputToBlock().setType(torch._C.IntType.get())  # type: ignore[call-arg]
    for value in carried:
        block.addInputToBlock().setType(value.type())  # type: ignore[call-arg]
    return loop, block


def _end_iteration(block: torch._C.Block, again: Value, carried: Sequence[Value]) -> None:
    for value in (again, *carried):
        block.registerOutput(value)


def _as_bool(builder: Builder, node: Node, value: Value) -> Value:
    """Return a predicate as a bool. The element of a tensor is read."""
    if value.type().kind() == "BoolType":
        return value
    return _insert(builder, node, "aten::Bool", [value], torch._C.BoolType.get())


def _add_outputs(builder: Builder, created: torch._C.Node, node: Node) -> list[Value]:
    """Add the results of a node with blocks, typed as those of the FX node."""
    results = []
    for value in node.meta["val"]:
        output = created.addOutput()
        output.setType(builder.type(value))
        results.append(output)
    return results


RULES: dict[str, Callable[[Builder, Node], list[Value]]] = {
    "cond": cond, "while_loop": while_loop, "scan": scan, "map_impl": map_,
}  # fmt: skip
