"""StableHLO ops that turn into less once their sizes are known, and the ops outside StableHLO that turn into one of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch_mlir import ir
from torch_mlir._mlir_libs import _stablehlo as hlo

from lowering.legalize.inference import iotas as places
from lowering.legalize.inference import matchers, shapes
from lowering.legalize.patterns import dots, heads, identities, movement
from lowering.sizes import expression as ex

if TYPE_CHECKING:
    from lowering.legalize.rewriter import Rewrite

Fold = Callable[[Any, "Rewrite"], None]

FOLDS: dict[str, Fold] = {}
REWRITES: dict[str, Fold] = {}


def _fold(*names: str) -> Callable[[Fold], Fold]:
    def register(fold: Fold) -> Fold:
        FOLDS.update(dict.fromkeys(names, fold))
        return fold

    return register


@_fold("stablehlo.dynamic_broadcast_in_dim", "stablehlo.broadcast_in_dim")
def _broadcast(op: Any, rewrite: Rewrite) -> None:
    """Gone where it changes nothing; a reshape where it only inserts dims of size one; static where all dims are ints."""
    _take_moves(op, rewrite)
    source, result = op.operands[0], op.results[0]
    kept = shapes.integers(op, "broadcast_dimensions")
    before, after = rewrite.known.dims(source), rewrite.known.dims(result)
    if kept == list(range(len(before))) and _same_dims(source, result, rewrite):
        rewrite.replace(result, source)
    elif before and kept == sorted(kept) and all(dim == (before[kept.index(i)] if i in kept else ex.ONE) for i, dim in enumerate(after)):
        rewrite.replace(result, movement.moved(source, movement.Move(before, None), op, rewrite))
    elif op.name == "stablehlo.dynamic_broadcast_in_dim" and _is_static(result, rewrite):
        _create(op, "stablehlo.broadcast_in_dim", [source], rewrite, broadcast_dimensions=op.attributes["broadcast_dimensions"])


def _take_moves(op: Any, rewrite: Rewrite) -> None:
    """Broadcast what a broadcast, or a reshape that inserts dims of size one, was made of."""
    while True:
        source = op.operands[0]
        move, inserted = movement.Move.of(source, rewrite), matchers.insertion(source, rewrite)
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
    """Gone where it changes nothing; static where all dims are ints; a reshape of a reshape is one, and of a splat a splat."""
    source, result = op.operands[0], op.results[0]
    origin = source.owner if not isinstance(source.owner, ir.Block) else None
    if origin is not None and origin.name in matchers.RESHAPES:
        op.operands[0] = source = origin.operands[0]
    if _same_dims(source, result, rewrite):
        rewrite.replace(result, source)
    elif matchers.splat(source) is not None:
        rewrite.replace(result, movement.moved(matchers.splat(source), movement.Move((), ()), op, rewrite))
    elif op.name == "stablehlo.dynamic_reshape" and _is_static(result, rewrite):
        _create(op, "stablehlo.reshape", [source], rewrite)
    else:
        heads.split(op, rewrite)


@_fold("stablehlo.transpose")
def _transpose(op: Any, rewrite: Rewrite) -> None:
    """Gone where every dim stays in its place."""
    order = shapes.integers(op, "permutation")
    if order == sorted(order) and _same_dims(op.operands[0], op.results[0], rewrite):
        rewrite.replace(op.results[0], op.operands[0])


@_fold("stablehlo.dot_general")
def _dot_general(op: Any, rewrite: Rewrite) -> None:
    op = dots.without_broadcast(op, rewrite) or op
    op = heads.merged_contraction(op, rewrite) or op
    dots.fold(op, rewrite)


@_fold("stablehlo.multiply", "stablehlo.divide", "stablehlo.subtract", "stablehlo.add", "stablehlo.and", "stablehlo.or")
def _arithmetic(op: Any, rewrite: Rewrite) -> None:
    _first(op, rewrite, identities.neutral, movement.sink)


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
    """A comparison of places that has one answer everywhere is a splat of it."""
    answer = places.decided(op, rewrite.known)
    if answer is not None:
        scalar = rewrite.emitter.constant(f"dense<{str(answer).lower()}>", "tensor<i1>")
        rewrite.replace(op.results[0], movement.moved(scalar, movement.Move((), ()), op, rewrite))


@_fold("stablehlo.select")
def _select(op: Any, rewrite: Rewrite) -> None:
    _first(op, rewrite, _choose, movement.sink)


def _choose(op: Any, rewrite: Rewrite) -> None:
    """What is always chosen is the result."""
    answer = matchers.constant_of(op.operands[0])
    if answer is not None:
        rewrite.replace(op.results[0], op.operands[1 if answer else 2])


@_fold("stablehlo.gather", "stablehlo.dynamic_gather")
def _gather(op: Any, rewrite: Rewrite) -> None:
    """x[0], x[1], ... to the end, along its one dim or its first, is x."""
    source, result = op.operands[0], op.results[0]
    numbers = hlo.GatherDimensionNumbers(op.attributes["dimension_numbers"])
    shape = rewrite.known.dims(source)
    at = places.of(op.operands[1], rewrite.known)
    taken = rewrite.known.values(op.operands[2]) if len(op.operands) > 2 else [ex.number(size) for size in shapes.integers(op, "slice_sizes")]
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


def _first(op: Any, rewrite: Rewrite, *ways: Fold) -> None:
    """The first of `ways` that replaces the op."""
    for way in ways:
        way(op, rewrite)
        if rewrite.current(op.results[0]) != op.results[0]:
            return


@_fold("stablehlo.real_dynamic_slice")
def _slice(op: Any, rewrite: Rewrite) -> None:
    """Gone where it takes everything; static where start, limit, stride and source are ints."""
    source, result = op.operands[0], op.results[0]
    starts, limits, strides = [rewrite.known.values(operand) for operand in op.operands[1:]]
    if starts is None or limits is None or strides is None:
        return
    if all(start == ex.ZERO for start in starts) and all(stride == ex.ONE for stride in strides) and _same_dims(source, result, rewrite):
        rewrite.replace(result, source)
    elif all(bound.constant is not None for bound in (*starts, *limits, *strides)) and _is_static(source, rewrite):
        named = {"start_indices": starts, "limit_indices": limits, "strides": strides}
        attributes = {name: ir.DenseI64ArrayAttr.get([bound.constant for bound in group]) for name, group in named.items()}
        _create(op, "stablehlo.slice", [source], rewrite, **attributes)


@_fold("stablehlo.dynamic_iota")
def _iota(op: Any, rewrite: Rewrite) -> None:
    """Static where all dims are ints; of several dims a broadcast of one of one dim, which is what MHLO's canonicalization cannot make."""
    shape = rewrite.known.dims(op.results[0])
    if _is_static(op.results[0], rewrite):
        _create(op, "stablehlo.iota", [], rewrite, iota_dimension=op.attributes["iota_dimension"])
    elif len(shape) > 1:
        position, emitter = op.attributes["iota_dimension"].value, rewrite.emitter
        length, element = shape[position], str(ir.RankedTensorType(op.results[0].type).element_type)
        size = "?" if length.constant is None else str(length.constant)
        with ir.InsertionPoint(op), op.location:
            line = emitter.op("stablehlo.iota", [], f"tensor<{size}x{element}>", iota_dimension="0 : i64") if length.constant is not None else \
                emitter.op("stablehlo.dynamic_iota", [emitter.vector([length])], f"tensor<{size}x{element}>", iota_dimension="0 : i64")
        rewrite.known.learn_dims(line, (length,))
        _create(op, "stablehlo.dynamic_broadcast_in_dim", [line, op.operands[0]], rewrite,
                broadcast_dimensions=ir.DenseI64ArrayAttr.get([position]))


def _same_dims(source: Any, result: Any, rewrite: Rewrite) -> bool:
    return rewrite.known.dims(source) == rewrite.known.dims(result) and source.type == result.type


def _is_static(value: Any, rewrite: Rewrite) -> bool:
    return all(dim.constant is not None for dim in rewrite.known.dims(value))


def _create(op: Any, name: str, operands: list[Any], rewrite: Rewrite, **attributes: Any) -> None:
    """Put an op of another name, with the same result type and location, in place of `op`."""
    with ir.InsertionPoint(op), op.location:
        created = ir.Operation.create(name, results=[op.results[0].type], operands=operands, attributes=attributes)
    rewrite.known.learn_dims(created.result, rewrite.known.dims(op.results[0]))
    rewrite.replace(op.results[0], created.result)


# Removed when nothing uses their result: what folding leaves behind.
REMOVABLE = frozenset({
    *FOLDS, "stablehlo.constant", "stablehlo.subtract", "stablehlo.add", "stablehlo.multiply", "stablehlo.divide", "stablehlo.ceil",
    "stablehlo.get_dimension_size", "stablehlo.concatenate", "stablehlo.transpose", "stablehlo.slice", "stablehlo.iota",
})  # fmt: skip

# ops on scalars -> the StableHLO op on 0-d tensors
_ELEMENTWISE = {
    "arith.addi": "add", "arith.addf": "add", "arith.subi": "subtract", "arith.subf": "subtract", "arith.muli": "multiply",
    "arith.mulf": "multiply", "arith.divf": "divide", "arith.divsi": "divide", "arith.maxsi": "maximum", "arith.minsi": "minimum",
    "arith.maximumf": "maximum", "arith.minimumf": "minimum", "arith.remsi": "remainder", "arith.remf": "remainder", "arith.negf": "negate",
    "arith.andi": "and", "arith.ori": "or", "arith.xori": "xor", "arith.select": "select", "arith.sitofp": "convert",
    "arith.uitofp": "convert", "arith.fptosi": "convert", "arith.extsi": "convert", "arith.extui": "convert", "arith.extf": "convert",
    "arith.truncf": "convert", "arith.trunci": "convert", "arith.index_cast": "convert", "math.ceil": "ceil", "math.floor": "floor",
    "math.sqrt": "sqrt", "math.powf": "power", "math.absf": "abs", "math.absi": "abs", "math.exp": "exponential", "math.log": "log",
    "math.roundeven": "round_nearest_even", "math.tanh": "tanh",
}  # fmt: skip

_FLOAT_PREDICATES = {1: "EQ", 2: "GT", 3: "GE", 4: "LT", 5: "LE", 6: "NE", 8: "EQ", 9: "GT", 10: "GE", 11: "LT", 12: "LE", 13: "NE"}
_INTEGER_PREDICATES = ("EQ", "NE", "LT", "LE", "GT", "GE", "LT", "LE", "GT", "GE")


def elementwise(op: Any, rewrite: Rewrite) -> Any | None:
    """A scalar op as the StableHLO op on 0-d tensors, or None if there is none."""
    emitter = rewrite.emitter
    with ir.InsertionPoint(op), op.location:
        if op.name == "arith.constant" and not isinstance(op.results[0].type, ir.RankedTensorType):
            text = str(op.attributes["value"]).partition(" : ")[0]
            return emitter.constant(f"dense<{text}>", _tensor(op.results[0]))
        if op.name == "arith.constant":
            return ir.Operation.create("stablehlo.constant", results=[op.results[0].type], attributes={"value": op.attributes["value"]}).result
        if op.name in ("arith.cmpi", "arith.cmpf"):
            predicate = op.attributes["predicate"].value
            direction = _INTEGER_PREDICATES[predicate] if op.name == "arith.cmpi" else _FLOAT_PREDICATES[predicate]
            operands = [rewrite.data(operand) for operand in op.operands]
            return emitter.op("stablehlo.compare", operands, "tensor<i1>", comparison_direction=f"#stablehlo<comparison_direction {direction}>")
        if op.name in _ELEMENTWISE:
            operands = [rewrite.data(operand) for operand in op.operands]
            return emitter.op(f"stablehlo.{_ELEMENTWISE[op.name]}", operands, _tensor(op.results[0]))
        if op.name == "tensor.extract":
            return _extract(op, rewrite)
        if op.name == "tensor.from_elements":
            return _from_elements(op, rewrite)
        if op.name in ("tensor.expand_shape", "tensor.collapse_shape", "tensor.cast"):
            return _reassociated(op, rewrite)
    return None


def _tensor(value: Any) -> str:
    if isinstance(value.type, ir.RankedTensorType):
        return str(value.type)
    return f"tensor<{'i64' if isinstance(value.type, ir.IndexType) else value.type}>"


def _extract(op: Any, rewrite: Rewrite) -> Any | None:
    source, *indices = op.operands
    places = [rewrite.known.values(index) for index in indices]
    starts = [place[0].constant for place in places if place is not None and place[0].constant is not None]
    if len(starts) != len(places):
        return None
    type_ = _tensor(op.results[0])
    source = rewrite.data(source)
    if not places:
        return source
    one = rewrite.emitter.op(
        "stablehlo.slice", [source], f"tensor<{'x'.join('1' * len(starts))}x{str(op.results[0].type).replace('index', 'i64')}>",
        start_indices=ir.DenseI64ArrayAttr.get(starts), limit_indices=ir.DenseI64ArrayAttr.get([start + 1 for start in starts]),
        strides=ir.DenseI64ArrayAttr.get([1] * len(starts)),
    )  # fmt: skip
    return rewrite.emitter.op("stablehlo.reshape", [one], type_)


def _from_elements(op: Any, rewrite: Rewrite) -> Any | None:
    emitter, type_ = rewrite.emitter, ir.RankedTensorType(op.results[0].type)
    element = str(type_.element_type).replace("index", "i64")
    if type_.rank == 0:
        return rewrite.data(op.operands[0])
    if type_.rank > 1:
        return None
    parts = [emitter.op("stablehlo.reshape", [rewrite.data(operand)], f"tensor<1x{element}>") for operand in op.operands]
    return parts[0] if len(parts) == 1 else emitter.op("stablehlo.concatenate", parts, f"tensor<{len(parts)}x{element}>", dimension="0 : i64")


def _reassociated(op: Any, rewrite: Rewrite) -> Any | None:
    """expand_shape, collapse_shape and cast as a reshape, or as themselves where nothing changes."""
    source = rewrite.data(op.operands[0])
    if op.name == "tensor.cast":
        rewrite.known.learn_dims(op.results[0], rewrite.known.dims(source))
        return source
    type_ = ir.RankedTensorType(op.results[0].type)
    if type_.has_static_shape:
        return rewrite.emitter.op("stablehlo.reshape", [source], str(type_))
    shape = rewrite.known.values(op.results[0]) or _expanded(op, rewrite)
    if shape is None:
        return None
    return rewrite.emitter.op("stablehlo.dynamic_reshape", [source, rewrite.emitter.vector(shape)], str(type_))


def _expanded(op: Any, rewrite: Rewrite) -> ex.Shape | None:
    """The dims of an expand_shape (its output sizes) or collapse_shape (products of each group)."""
    source = rewrite.known.dims(op.operands[0])
    groups = [[int(position) for position in group] for group in op.attributes["reassociation"]]
    if op.name == "tensor.collapse_shape":
        return tuple(ex.product([source[position] for position in group]) for group in groups)
    type_ = ir.RankedTensorType(op.results[0].type)
    sizes = iter(rewrite.known.values(operand) for operand in op.operands[1:])
    found = []
    for position in range(type_.rank):
        given = next(sizes, None) if type_.is_dynamic_dim(position) else (ex.number(type_.get_dim_size(position)),)
        if given is None:
            return None
        found.append(given[0])
    return tuple(found)
