"""StableHLO ops that turn into less once their sizes are known."""

from __future__ import annotations

from typing import Any

from torch_mlir import ir
from torch_mlir._mlir_libs import _stablehlo as hlo

from lowering.legalize.inference import iotas, matchers, shapes
from lowering.legalize.inference.known import is_static
from lowering.legalize.patterns import adjacent, dots, heads, identities, movement, padding, windows
from lowering.legalize.rewriter import Pattern, Rewrite
from lowering.rules import Rules
from lowering.sizes import expression as ex

FOLDS: Rules[Pattern] = Rules("lowering.legalize.patterns.folds")
_fold = FOLDS.register


@_fold("stablehlo.dynamic_broadcast_in_dim", "stablehlo.broadcast_in_dim")
def _broadcast(op: Any, rewrite: Rewrite) -> None:
    """Remove a broadcast that changes nothing, reshape if it only inserts dims of size one, make it static if all dims are ints."""
    _take_moves(op, rewrite)
    source, result = op.operands[0], op.results[0]
    kept = shapes.integers(op, "broadcast_dimensions")
    before, after = rewrite.known.dims(source), rewrite.known.dims(result)
    if kept == list(range(len(before))) and _same_dims(source, result, rewrite):
        rewrite.replace(result, source)
    elif before and kept == sorted(kept) and all(dim == (before[kept.index(i)] if i in kept else ex.ONE) for i, dim in enumerate(after)):
        rewrite.replace(result, movement.create_move(source, movement.Move(before, None), op, rewrite))
    elif op.name == "stablehlo.dynamic_broadcast_in_dim" and is_static(rewrite.known.dims(result)):
        _create(op, "stablehlo.broadcast_in_dim", [source], rewrite, broadcast_dimensions=op.attributes["broadcast_dimensions"])


def _take_moves(op: Any, rewrite: Rewrite) -> None:
    """Broadcast the operand of a broadcast, or of a reshape that inserts dims of size one, directly."""
    while True:
        source = op.operands[0]
        move, inserted = movement.Move.find(source, rewrite), matchers.insertion(source, rewrite.known)
        if move is None or (move.places is None and inserted is None):
            return
        kept = shapes.integers(op, "broadcast_dimensions")
        if move.places is not None:
            kept = [kept[place] for place in move.places]
        else:
            kept = [place for position, place in enumerate(kept) if position not in inserted]  # type: ignore[operator]
        op.operands[0] = source.owner.operands[0]
        op.attributes["broadcast_dimensions"] = ir.DenseI64ArrayAttr.get(kept)


@_fold("stablehlo.dynamic_reshape", "stablehlo.reshape")
def _reshape(op: Any, rewrite: Rewrite) -> None:
    """Remove a reshape that changes nothing, make it static if all dims are ints, and merge it with a reshape or splat before it."""
    source, result = op.operands[0], op.results[0]
    origin = source.owner if not isinstance(source.owner, ir.Block) else None
    if origin is not None and origin.name in matchers.RESHAPES:
        op.operands[0] = source = origin.operands[0]
    if _same_dims(source, result, rewrite):
        rewrite.replace(result, source)
    elif matchers.splat(source) is not None:
        rewrite.replace(result, movement.create_move(matchers.splat(source), movement.Move((), ()), op, rewrite))
    elif op.name == "stablehlo.dynamic_reshape" and is_static(rewrite.known.dims(result)):
        _create(op, "stablehlo.reshape", [source], rewrite)
    else:
        heads.split(op, rewrite)


@_fold("stablehlo.transpose")
def _transpose(op: Any, rewrite: Rewrite) -> None:
    """Remove a transpose that moves no dim."""
    order = shapes.integers(op, "permutation")
    if order == sorted(order) and _same_dims(op.operands[0], op.results[0], rewrite):
        rewrite.replace(op.results[0], op.operands[0])


@_fold("stablehlo.dot_general")
def _dot_general(op: Any, rewrite: Rewrite) -> None:
    op = dots.without_broadcast(op, rewrite) or op
    op = dots.without_transposes(op, rewrite) or op
    op = heads.unmerge_contraction(op, rewrite) or op
    dots.fold(op, rewrite)


@_fold("stablehlo.convolution")
def _convolution(op: Any, rewrite: Rewrite) -> None:
    dots.narrow(op, rewrite)


@_fold("stablehlo.multiply", "stablehlo.divide", "stablehlo.subtract", "stablehlo.add", "stablehlo.and", "stablehlo.or")
def _arithmetic(op: Any, rewrite: Rewrite) -> None:
    _first(op, rewrite, identities.neutral, movement.sink)


@_fold("stablehlo.reduce", "stablehlo.pad", "stablehlo.dynamic_pad")
def _fill(op: Any, rewrite: Rewrite) -> None:
    """Replace a reduction or padding of a tensor without elements by its initial or padding value.

    MHLO's canonicalization would make shape arithmetic of it, which is no op of MHLO.
    """
    if not any(size == ex.ZERO for size in rewrite.known.dims(op.operands[0])):
        return
    fills = list(op.operands)[len(op.results) :] if op.name == "stablehlo.reduce" else [op.operands[1]]
    rewrite.emitter.here = op
    with ir.InsertionPoint(op), op.location:
        for result, fill in zip(op.results, fills, strict=True):
            rewrite.replace(result, movement.broadcast(fill, (), rewrite.known.dims(result), rewrite))


@_fold("stablehlo.power")
def _power(op: Any, rewrite: Rewrite) -> None:
    _first(op, rewrite, identities.power, movement.sink)


@_fold("stablehlo.convert")
def _convert(op: Any, rewrite: Rewrite) -> None:
    _first(op, rewrite, identities.convert, movement.sink)


@_fold("stablehlo.compare")
def _compare(op: Any, rewrite: Rewrite) -> None:
    _first(op, rewrite, _decide, movement.sink)


def _decide(op: Any, rewrite: Rewrite) -> None:
    """Replace a comparison of indices that has the same answer everywhere by a splat."""
    answer = iotas.decide(op, rewrite.known)
    if answer is not None:
        scalar = rewrite.emitter.constant(f"dense<{str(answer).lower()}>", "tensor<i1>")
        rewrite.replace(op.results[0], movement.create_move(scalar, movement.Move((), ()), op, rewrite))


@_fold("stablehlo.select")
def _select(op: Any, rewrite: Rewrite) -> None:
    _first(op, rewrite, _choose, movement.sink)


def _choose(op: Any, rewrite: Rewrite) -> None:
    """Replace a select whose predicate is known by the operand that it selects."""
    answer = matchers.read_constant(op.operands[0])
    if answer is not None:
        rewrite.replace(op.results[0], op.operands[1 if answer else 2])


@_fold("stablehlo.gather", "stablehlo.dynamic_gather")
def _gather(op: Any, rewrite: Rewrite) -> None:
    _first(op, rewrite, _take_all, adjacent.read_slice, windows.widen_gather, windows.keep_element)


@_fold("stablehlo.scatter")
def _scatter(op: Any, rewrite: Rewrite) -> None:
    windows.widen_scatter(op, rewrite)
    adjacent.update_slice(op, rewrite)


@_fold("stablehlo.dynamic_update_slice")
def _update_slice(op: Any, rewrite: Rewrite) -> None:
    """Replace an update of the whole tensor by the update."""
    if _same_dims(op.operands[1], op.results[0], rewrite):
        rewrite.replace(op.results[0], op.operands[1])


def _take_all(op: Any, rewrite: Rewrite) -> None:
    """Replace a gather of x[0], x[1], ... to the end, along the first dim, by x."""
    source, result = op.operands[0], op.results[0]
    numbers = hlo.GatherDimensionNumbers(op.attributes["dimension_numbers"])
    shape = rewrite.known.dims(source)
    at = iotas.find_map(op.operands[1], rewrite.known)
    taken = rewrite.known.values(op.operands[2]) if len(op.operands) > 2 else [ex.number(size)
                                                                               for size in shapes.integers(op, "slice_sizes")]
    takes_rows = list(numbers.collapsed_slice_dims) == [0] == list(numbers.start_index_map) and not numbers.operand_batching_dims
    puts_rows = list(numbers.offset_dims) == list(range(1, len(shape)))
    if at is None or taken is None or list(taken) != [ex.ONE, *shape[1:]] or not takes_rows or not puts_rows:
        return
    is_in_order = at.offset == ex.ZERO and at.steps[:1] == (ex.ONE,) and all(step == ex.ZERO for step in at.steps[1:])
    if is_in_order and _same_dims(source, result, rewrite):
        rewrite.replace(result, source)


@_fold(*(name for name in sorted(movement.SINKABLE) if name not in FOLDS))
def _sink(op: Any, rewrite: Rewrite) -> None:
    movement.sink(op, rewrite)


def _first(op: Any, rewrite: Rewrite, *ways: Pattern) -> None:
    """Apply the first of `ways` that replaces the op."""
    for way in ways:
        way(op, rewrite)
        if rewrite.current(op.results[0]) != op.results[0]:
            return


@_fold("stablehlo.real_dynamic_slice")
def _slice(op: Any, rewrite: Rewrite) -> None:
    """Remove a slice of the whole operand, or of exactly the padding of one. Make it static if start, limit, stride and source are ints."""
    source, result = op.operands[0], op.results[0]
    starts, limits, strides = [rewrite.known.values(operand) for operand in op.operands[1:]]
    if starts is None or limits is None or strides is None:
        return
    if all(start == ex.ZERO for start in starts) and all(stride == ex.ONE for stride in strides) and _same_dims(source, result, rewrite):
        rewrite.replace(result, source)
    elif all(bound.constant is not None for bound in (*starts, *limits, *strides)) and is_static(rewrite.known.dims(source)):
        named = {"start_indices": starts, "limit_indices": limits, "strides": strides}
        attributes = {name: ir.DenseI64ArrayAttr.get([bound.constant for bound in group]) for name, group in named.items()}
        _create(op, "stablehlo.slice", [source], rewrite, **attributes)
    elif all(stride == ex.ONE for stride in strides):
        padding.cut(op, starts, limits, rewrite)


@_fold("stablehlo.dynamic_iota")
def _iota(op: Any, rewrite: Rewrite) -> None:
    """Make an iota static if all dims are ints. Else make one of several dims a broadcast of one of a single dim.

    MHLO's canonicalization cannot make that broadcast.
    """
    shape = rewrite.known.dims(op.results[0])
    if is_static(rewrite.known.dims(op.results[0])):
        _create(op, "stablehlo.iota", [], rewrite, iota_dimension=op.attributes["iota_dimension"])
    elif len(shape) > 1:
        position, emitter = op.attributes["iota_dimension"].value, rewrite.emitter
        length, element = shape[position], str(ir.RankedTensorType(op.results[0].type).element_type)
        size = "?" if length.constant is None else str(length.constant)
        with ir.InsertionPoint(op), op.location:
            line = emitter.op("stablehlo.iota", [], f"tensor<{size}x{element}>",
                              iota_dimension="0 : i64") if length.constant is not None else \
                emitter.op("stablehlo.dynamic_iota", [emitter.vector([length])], f"tensor<{size}x{element}>", iota_dimension="0 : i64")
        rewrite.known.learn_dims(line, (length,))
        iotas.learn(line.owner, rewrite.known)
        _create(op, "stablehlo.dynamic_broadcast_in_dim", [line, op.operands[0]], rewrite,
                broadcast_dimensions=ir.DenseI64ArrayAttr.get([position]))


def _same_dims(source: Any, result: Any, rewrite: Rewrite) -> bool:
    return rewrite.known.dims(source) == rewrite.known.dims(result) and source.type == result.type


def _create(op: Any, name: str, operands: list[Any], rewrite: Rewrite, **attributes: Any) -> None:
    """Put an op of another name, with the same result type and location, in place of `op`."""
    with ir.InsertionPoint(op), op.location:
        created = ir.Operation.create(name, results=[op.results[0].type], operands=operands, attributes=attributes)
    rewrite.known.learn_dims(created.result, rewrite.known.dims(op.results[0]))
    rewrite.replace(op.results[0], created.result)


# Removed when nothing uses their result, as folding leaves them.
REMOVABLE = frozenset({
    *FOLDS, "stablehlo.constant", "stablehlo.subtract", "stablehlo.add", "stablehlo.multiply", "stablehlo.divide", "stablehlo.ceil",
    "stablehlo.get_dimension_size", "stablehlo.concatenate", "stablehlo.transpose", "stablehlo.slice", "stablehlo.iota",
})  # fmt: skip
