"""scf's if, while and for as StableHLO's if and while: scalars become 0-d tensors, and what is known of sizes holds inside and behind
them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch_mlir import ir

from lowering.errors import Problem
from lowering.ir import mlir
from lowering.legalize.rewriter import Pattern, Rewrite
from lowering.sizes.expression import Expression, Shape

PASS = "builtin.module(func.func(convert-torch-to-scf))"  # before the conversion to StableHLO: it leaves the bodies to it
OPS = frozenset({"torch.prim.If", "torch.prim.Loop"})


def keep_conditions(module: Any) -> None:
    """Hide from `PASS` the initial conditions that are constants, where a later one is not: it takes such a loop for one that only
    counts.
    """
    for loop in [op for op in mlir.walk_operations(module) if op.name == "torch.prim.Loop"]:
        first, again = loop.operands[1], list(loop.regions[0].blocks[0].operations)[-1].operation.operands[0]
        if _is_constant(first) and not _is_constant(again):
            with ir.InsertionPoint(loop), loop.location:
                loop.operands[1] = ir.Operation.create("torch.aten.Bool.int", results=[first.type], operands=[
                    ir.Operation.create("torch.aten.Int.bool", results=[ir.Type.parse("!torch.int")], operands=[first]).result]).result


def _is_constant(value: Any) -> bool:
    return not isinstance(value.owner, ir.Block) and value.owner.name == "torch.constant.bool"


def _if(op: Any, rewrite: Rewrite) -> None:
    """Give each result the dims that are equal in both branches."""
    known = rewrite.known
    created = _create(op, "stablehlo.if", [rewrite.data(op.operands[0])], [_tensor(result.type) for result in op.results], 2)
    before, shapes = known.count(), []
    for old, new in zip(op.regions, created.regions, strict=True):
        block = old.blocks[0]
        block.append_to(new)
        shapes.append([_shape(value, rewrite) for value in _body(block, rewrite, lambda values: values)])
    for result, first, second in zip(created.results, *shapes, strict=True):
        if first is not None and first == second and known.is_outside(first, before):
            known.learn_dims(result, first)
    for old_result, result in zip(op.results, created.results, strict=True):
        _replace(old_result, result, rewrite)


def _while(op: Any, rewrite: Rewrite) -> None:
    """Convert a loop of torch-mlir, which carries its condition: the first region has nothing but `scf.condition`."""
    first, second = (region.blocks[0] for region in op.regions)
    condition = list(first.operations)[-1].operation
    if len(list(first.operations)) != 1:
        rewrite.problems.append(Problem(f"scf.while at {op.location}",
                                        "computes its condition in a form that this legalization does not know"))
        return
    positions = {argument: position for position, argument in enumerate(first.arguments)}
    deciding, *passed = list(condition.operands)

    def end(values: list[Any]) -> list[Any]:
        return values

    places = [positions.get(value, value) for value in passed]
    if deciding not in positions:
        rewrite.problems.append(Problem(f"scf.while at {op.location}", "has a condition that no iteration changes"))
        return
    created = _loop(op, rewrite, list(op.operands), second, places, lambda arguments: arguments[positions[deciding]], end)
    for old_result, place in zip(op.results, places, strict=True):
        _replace(old_result, created.results[place] if isinstance(place, int) else rewrite.data(place), rewrite)


def _for(op: Any, rewrite: Rewrite) -> None:
    """Carry the iteration number as an i64, before the other values."""
    start, stop, step, *carried = list(op.operands)
    limit, stride = rewrite.data(stop), rewrite.data(step)

    def go_on(arguments: list[Any]) -> Any:
        return rewrite.emitter.op("stablehlo.compare", [arguments[0], limit], "tensor<i1>",
                                  comparison_direction="#stablehlo<comparison_direction LT>")

    def end(values: list[Any]) -> list[Any]:
        iteration = list(body.arguments)[len(op.operands) - 2]  # its new form comes after the block's old arguments
        return [rewrite.emitter.op("stablehlo.add", [iteration, stride], "tensor<i64>"), *values]

    body = op.regions[0].blocks[0]
    created = _loop(op, rewrite, [start, *carried], body, list(range(1 + len(carried))), go_on, end)
    for old_result, result in zip(op.results, list(created.results)[1:], strict=True):
        _replace(old_result, result, rewrite)


def _loop(op: Any, rewrite: Rewrite, initial: Sequence[Any], body: Any, places: Sequence[Any],
          go_on: Callable[[list[Any]], Any], end: Callable[[list[Any]], list[Any]]) -> Any:
    """Create a `stablehlo.while` with `initial` values. `places` maps each argument of `body` to a carried value, or to a value.

    A carried tensor must keep its dims: an iteration that changes one is a problem.
    """
    start = [rewrite.data(value) for value in initial]
    types = [value.type for value in start]
    created = _create(op, "stablehlo.while", start, types, 2)
    condition = created.regions[0].blocks.append(*types)
    with ir.InsertionPoint(condition), op.location:
        ir.Operation.create("stablehlo.return", operands=[go_on(list(condition.arguments))])
    old = list(body.arguments)
    body.append_to(created.regions[1])
    carried = [body.add_argument(type_, op.location) for type_ in types]
    for value, argument in zip(start, carried, strict=True):
        if isinstance(value.type, ir.RankedTensorType):
            rewrite.known.learn_dims(argument, rewrite.known.dims(value))
    for argument, place in zip(old, places, strict=True):
        _replace(argument, carried[place] if isinstance(place, int) else rewrite.data(place), rewrite)
    yielded = _body(body, rewrite, end)
    kept = 0
    for argument in old:
        rewrite.forget(argument)
        if users := list(argument.uses):  # by ops that were refused; to erase it would leave them without an operand
            cause = f"its body keeps {users[0].owner.name}, which reads a carried value in no form of StableHLO"
            rewrite.problems.append(Problem(f"loop at {op.location}", cause))
            kept += 1
        else:
            body.erase_argument(kept)
    for position, (before, after) in enumerate(zip(start, yielded, strict=True)):
        _check(op, position, rewrite.known.dims(before), rewrite.known.dims(after), rewrite)
        rewrite.known.learn_dims(created.results[position], rewrite.known.dims(before))
    return created


def _replace(old: Any, new: Any, rewrite: Rewrite) -> None:
    """Replace a carried value by one that may have more static dims. They are written into the old type, since users ask it for sizes."""
    if isinstance(old.type, ir.RankedTensorType) and isinstance(new.type, ir.RankedTensorType) and old.type != new.type:
        rewrite.known.learn_dims(old, rewrite.known.dims(new))
    rewrite.replace(old, new)


def _check(op: Any, position: int, before: Shape, after: Shape, rewrite: Rewrite) -> None:
    for dim, (one, other) in enumerate(zip(before, after, strict=True)):
        if one != other:
            cause = f"its carried value {position} has size {_words(one)} in dim {dim} before an iteration and {_words(other)} after it"
            rewrite.problems.append(Problem(f"loop at {op.location}", cause, "StableHLO's while keeps the shapes that it starts with"))


def _words(size: Expression) -> str:
    return str(size) if size.constant is None else str(size.constant)


def _body(block: Any, rewrite: Rewrite, end: Callable[[list[Any]], list[Any]]) -> list[Any]:
    """Legalize a block and return `end` of what it yielded from it; the values returned."""
    rewrite.walk(block)
    terminator = list(block.operations)[-1].operation
    rewrite.emitter.here = terminator
    with ir.InsertionPoint(terminator), terminator.location:
        values = end([rewrite.data(value) for value in terminator.operands])
        ir.Operation.create("stablehlo.return", operands=values)
    terminator.erase()
    rewrite.erase_dead(block)
    rewrite.emitter.forget()
    return values


def _create(op: Any, name: str, operands: Sequence[Any], types: Sequence[Any], regions: int) -> Any:
    with ir.InsertionPoint(op), op.location:
        return ir.Operation.create(name, results=list(types), operands=list(operands), regions=regions)


def _shape(value: Any, rewrite: Rewrite) -> Shape | None:
    return rewrite.known.dims(value) if isinstance(value.type, ir.RankedTensorType) else None


def _tensor(type_: Any) -> Any:
    """Return the type of a scalar as a 0-d tensor type."""
    if isinstance(type_, ir.RankedTensorType):
        return type_
    return ir.Type.parse(f"tensor<{'i64' if isinstance(type_, ir.IndexType) else type_}>")


RULES: dict[str, Pattern] = {"scf.if": _if, "scf.while": _while, "scf.for": _for}
