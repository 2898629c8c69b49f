"""Move broadcasts and reshapes after the arithmetic that uses them: less is computed, and moves that undo each other meet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch_mlir import ir

from lowering.legalize.inference.known import is_static, tensor_type
from lowering.legalize.inference.matchers import BROADCASTS, RESHAPES, find_inserted, splat
from lowering.legalize.inference.shapes import ELEMENTWISE, integers
from lowering.legalize.rewriter import Rewrite
from lowering.sizes import expression as ex

SINKABLE = (ELEMENTWISE | {"stablehlo.select"}) - {
    "stablehlo.sort", "stablehlo.reverse", "stablehlo.cholesky", "stablehlo.bitcast_convert", "stablehlo.optimization_barrier",
}  # fmt: skip
_PASSED = SINKABLE | {"stablehlo.dot_general", *RESHAPES, *BROADCASTS}  # ops after which a merging reshape is moved


@dataclass(frozen=True)
class Move:
    """A broadcast (`places`: where each dim of `source` goes) or a reshape (`places` None) of a tensor with dims `source`."""

    source: ex.Shape
    places: tuple[int, ...] | None

    @staticmethod
    def find(value: Any, rewrite: Rewrite) -> Move | None:
        """Return the move whose result is `value`, if there is one."""
        if isinstance(value.owner, ir.Block) or value.owner.name not in (*RESHAPES, *BROADCASTS):
            return None
        places = tuple(integers(value.owner, "broadcast_dimensions")) if value.owner.name in BROADCASTS else None
        return Move(rewrite.known.dims(value.owner.operands[0]), places)


def sink(op: Any, rewrite: Rewrite) -> None:
    """Replace f(move(x), move(y), splat) by move(f(x, y, splat')) where all operands are moved alike and the result is cheaper."""
    if op.name not in SINKABLE or len(op.results) != 1 or not op.operands:
        return
    target = rewrite.known.dims(op.results[0])
    if any(len(rewrite.known.dims(operand)) != len(target) for operand in op.operands):
        return  # a predicate or bound of no dims
    for move in _moves(op, target, rewrite):
        before = [_undo_move(operand, move, target, rewrite) for operand in op.operands]
        if all(value is not None for value in before):
            _behind(op, move, before, rewrite)
            return


def _behind(op: Any, move: Move, before: list[Any], rewrite: Rewrite) -> None:
    """Apply `op` to `before`, its operands without `move`, and `move` to the result."""
    rewrite.emitter.here = op
    with ir.InsertionPoint(op), op.location:
        operands = [value if isinstance(value, ir.Value) else value() for value in before]  # type: ignore[misc]
        type_ = tensor_type(move.source, op.results[0])
        lower = ir.Operation.create(op.name, results=[type_], operands=operands, attributes=dict(op.attributes.items()))
    rewrite.known.learn_dims(lower.result, move.source)
    rewrite.replace(op.results[0], create_move(rewrite.fold(lower), move, op, rewrite))


def create_move(value: Any, move: Move, op: Any, rewrite: Rewrite) -> Any:
    """Create the move of `value` to the dims of the result of `op`, before `op`, and simplify it."""
    target = rewrite.known.dims(op.results[0])
    rewrite.emitter.here = op
    with ir.InsertionPoint(op), op.location:
        name = "stablehlo.dynamic_reshape" if move.places is None else "stablehlo.dynamic_broadcast_in_dim"
        attributes = {} if move.places is None else {"broadcast_dimensions": ir.DenseI64ArrayAttr.get(list(move.places))}
        operands = [value, rewrite.emitter.vector(target)]
        created = ir.Operation.create(name, results=[tensor_type(target, op.results[0])], operands=operands, attributes=attributes)
    rewrite.known.learn_dims(created.result, target)
    return rewrite.fold(created)


def _moves(op: Any, target: ex.Shape, rewrite: Rewrite) -> list[Move]:
    """List the moves of operands that may be done after `op`; if all operands are splats, the broadcast of a scalar."""
    moved_operands = [operand for operand in op.operands if splat(operand) is None]
    if not moved_operands:
        return [Move((), ())]
    pairs = [(operand, Move.find(operand, rewrite)) for operand in moved_operands]
    return [move for operand, move in pairs if move is not None and _pays(operand, move, target, rewrite)]


def _pays(operand: Any, move: Move, target: ex.Shape, rewrite: Rewrite) -> bool:
    """Return whether moving pays: the move is not duplicated, and no more is computed."""
    if move.places is None:
        inserts = len(move.source) < len(target) and find_inserted(move.source, target) is not None
        merges = len(move.source) > len(target) and all(user.name in _PASSED for user in rewrite.users(operand))
        return inserts or merges
    return is_static(move.source) or len(rewrite.users(operand)) == 1


def _undo_move(operand: Any, move: Move, target: ex.Shape, rewrite: Rewrite) -> Any | None:
    """Return `operand` before `move`: a value, a function that creates it at the insertion point, or None if there is no such value."""
    if splat(operand) is not None:
        return lambda: broadcast(splat(operand), (), move.source, rewrite)
    own = Move.find(operand, rewrite)
    if own is None:
        return None
    if own == move:
        return operand.owner.operands[0]
    kept = _count_equal_end(move.source, target)
    if move.places is not None or own.places is None or any(place < len(target) - kept for place in own.places):
        return None
    places = tuple(place + len(move.source) - len(target) for place in own.places)
    return lambda: broadcast(operand.owner.operands[0], places, move.source, rewrite)


def _count_equal_end(source: ex.Shape, target: ex.Shape) -> int:
    """Count the trailing dims that are equal."""
    pairs = zip(reversed(source), reversed(target), strict=False)
    return next((count for count, (a, b) in enumerate(pairs) if a != b), min(len(source), len(target)))


def broadcast(value: Any, places: tuple[int, ...], shape: ex.Shape, rewrite: Rewrite) -> Any:
    """Broadcast `value` to `shape` at the insertion point, and simplify."""
    operands = [value, rewrite.emitter.vector(shape)]
    created = ir.Operation.create("stablehlo.dynamic_broadcast_in_dim", results=[tensor_type(shape, value)], operands=operands,
                                  attributes={"broadcast_dimensions": ir.DenseI64ArrayAttr.get(list(places))})
    rewrite.known.learn_dims(created.result, shape)
    return rewrite.fold(created)


def reshape(value: Any, shape: ex.Shape, rewrite: Rewrite) -> Any:
    """Reshape `value` to `shape` at the insertion point, and simplify."""
    created = ir.Operation.create("stablehlo.dynamic_reshape", results=[tensor_type(shape, value)],
                                  operands=[value, rewrite.emitter.vector(shape)])
    rewrite.known.learn_dims(created.result, shape)
    return rewrite.fold(created)
