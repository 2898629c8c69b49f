"""dot_general in its plainest form: no broadcast weights, no merged batch dims, no transposed operand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch_mlir import ir
from torch_mlir._mlir_libs import _stablehlo as hlo

from lowering.legalize.inference.known import tensor_type
from lowering.legalize.inference.matchers import BROADCASTS, RESHAPES
from lowering.legalize.patterns.movement import Move, create_move, reshape
from lowering.legalize.rewriter import Rewrite
from lowering.sizes import expression as ex


@dataclass(frozen=True)
class Numbers:
    """The dims of each operand that are batch dims, and those that are contracted."""

    left_batch: tuple[int, ...]
    right_batch: tuple[int, ...]
    left_contracting: tuple[int, ...]
    right_contracting: tuple[int, ...]

    @staticmethod
    def read(op: Any) -> Numbers:
        numbers = hlo.DotDimensionNumbers(op.attributes["dot_dimension_numbers"])
        return Numbers(tuple(numbers.lhs_batching_dimensions), tuple(numbers.rhs_batching_dimensions),
                       tuple(numbers.lhs_contracting_dimensions), tuple(numbers.rhs_contracting_dimensions))  # fmt: skip

    def attribute(self) -> ir.Attribute:
        return hlo.DotDimensionNumbers.get(self.left_batch, self.right_batch, self.left_contracting, self.right_contracting)


def fold(op: Any, rewrite: Rewrite) -> None:
    """Simplify as far as it goes; the result keeps its shape and meaning."""
    op = without_transposes(op, rewrite) or op
    op = narrow(op, rewrite) or op
    op = without_transposes(op, rewrite) or op  # which the widening may have hidden
    op = _without_repetition(op, rewrite) or op
    for last in (_groups_apart, _unmerge_batch, _unmerge_rows):
        last(op, rewrite)
        if rewrite.current(op.results[0]) != op.results[0]:
            return


def narrow(op: Any, rewrite: Rewrite) -> Any | None:
    """Multiply int8 as int8: a dot or convolution of operands that were widened to int32 becomes one of int8 with a result of int32."""
    if not all(_is(operand, "stablehlo.convert") for operand in op.operands):
        return None
    sources = [operand.owner.operands[0] for operand in op.operands]
    elements = [str(value.type.element_type) for value in (op.results[0], *op.operands, *sources)]
    if elements != ["i32", "i32", "i32", "i8", "i8"]:
        return None
    with ir.InsertionPoint(op), op.location:
        created = ir.Operation.create(op.name, results=[op.results[0].type], operands=sources,
                                      attributes={name: op.attributes[name] for name in op.attributes})
    rewrite.known.learn_dims(created.result, rewrite.known.dims(op.results[0]))
    rewrite.replace(op.results[0], created.result)
    return created


def without_broadcast(op: Any, rewrite: Rewrite) -> Any | None:
    """Replace (B, M, K) x broadcast(K, N), where the right operand is the same in every batch, by (B, M, K) x (K, N)."""
    left, right = op.operands
    numbers = Numbers.read(op)
    if not numbers.right_batch or not _is(right, "stablehlo.dynamic_broadcast_in_dim", "stablehlo.broadcast_in_dim"):
        return None
    source = right.owner.operands[0]
    kept = list(right.owner.attributes["broadcast_dimensions"])
    others = [position for position in range(len(rewrite.known.dims(right))) if position not in numbers.right_batch]
    keeps_sizes = all(rewrite.known.dims(source)[i] == rewrite.known.dims(right)[place] for i, place in enumerate(kept))
    free = [position for position in range(len(rewrite.known.dims(left)))
            if position not in (*numbers.left_batch, *numbers.left_contracting)]
    if kept != others or not keeps_sizes or list(numbers.left_batch) + free != sorted([*numbers.left_batch, *free]):
        return None
    plain = Numbers((), (), numbers.left_contracting, tuple(kept.index(place) for place in numbers.right_contracting))
    return _replace(op, [left, source], plain, rewrite)


def _without_repetition(op: Any, rewrite: Rewrite) -> Any | None:
    """Replace (B, G, M, K) x broadcast of (B, K, N) to (B, G, K, N) by (B, G, M, K) x (B, K, N), where G is a plain dim.

    Heads that share a key and a value are such groups.
    """
    left, right = op.operands
    numbers = Numbers.read(op)
    if not _is(right, *BROADCASTS):
        return None
    source, kept = right.owner.operands[0], list(right.owner.attributes["broadcast_dimensions"])
    shape = rewrite.known.dims(right)
    repeated = tuple(position for position in range(len(shape)) if position not in kept)
    count = len(repeated)
    keeps_sizes = all(rewrite.known.dims(source)[i] == shape[place] for i, place in enumerate(kept))
    if not 0 < count < len(numbers.right_batch) or numbers.right_batch[-count:] != repeated or kept != sorted(kept) or not keeps_sizes:
        return None
    freed = numbers.left_batch[-count:]
    free = [position for position in range(len(rewrite.known.dims(left)))
            if position not in (*numbers.left_batch, *numbers.left_contracting)]
    if [*freed, *free] != sorted([*freed, *free]):
        return None
    plain = Numbers(numbers.left_batch[:-count], tuple(map(kept.index, numbers.right_batch[:-count])), numbers.left_contracting,
                    tuple(map(kept.index, numbers.right_contracting)))  # fmt: skip
    return _replace(op, [left, source], plain, rewrite)


def _groups_apart(op: Any, rewrite: Rewrite) -> None:
    """Replace (B*G, M, K) x (B*G, K, N), whose right operand is reshaped from a broadcast to (B, G, K, N).

    The new dot is over the dims of the broadcast, and its result is reshaped.
    """
    numbers = Numbers.read(op)
    left, right = op.operands
    count = len(numbers.right_batch)
    if not count or any(batch != tuple(range(count)) for batch in (numbers.left_batch, numbers.right_batch)) or not _is(right, *RESHAPES):
        return
    source = right.owner.operands[0]
    before, after = rewrite.known.dims(source), rewrite.known.dims(right)
    apart = before[: len(before) - len(after) + count]
    is_merged = len(apart) > count and before[len(apart):] == after[count:] and ex.product(apart) == ex.product(after[:count])
    if not is_merged or not _is(source, *BROADCASTS) or len(apart) - 1 in source.owner.attributes["broadcast_dimensions"]:
        return
    more = len(apart) - count
    split = Numbers(tuple(range(len(apart))), tuple(range(len(apart))), tuple(place + more for place in numbers.left_contracting),
                    tuple(place + more for place in numbers.right_contracting))  # fmt: skip
    shape = apart + rewrite.known.dims(op.results[0])[count:]
    rewrite.emitter.here = op
    with ir.InsertionPoint(op), op.location:
        groups = reshape(left, apart + rewrite.known.dims(left)[count:], rewrite)
        dot = create(op, tensor_type(shape, op.results[0]), [groups, source], split)
    rewrite.known.learn_dims(dot.result, shape)
    rewrite.replace(op.results[0], create_move(rewrite.fold(dot), Move(shape, None), op, rewrite))


def without_transposes(op: Any, rewrite: Rewrite) -> Any | None:
    """Read a transposed operand directly, if its free dims keep their order."""
    numbers = Numbers.read(op)
    left, left_batch, left_contracting = _in_place(op.operands[0], numbers.left_batch, numbers.left_contracting)
    right, right_batch, right_contracting = _in_place(op.operands[1], numbers.right_batch, numbers.right_contracting)
    if [left, right] == list(op.operands):
        return None
    return _replace(op, [left, right], Numbers(left_batch, right_batch, left_contracting, right_contracting), rewrite)


def _in_place(value: Any, batch: tuple[int, ...], contracting: tuple[int, ...]) -> tuple[Any, tuple[int, ...], tuple[int, ...]]:
    """Return the source of a transpose with the positions of its batch and contracted dims, or `value` itself if that does not help."""
    if not _is(value, "stablehlo.transpose"):
        return value, batch, contracting
    order = list(value.owner.attributes["permutation"])
    free = [order[position] for position in range(len(order)) if position not in (*batch, *contracting)]
    if free != sorted(free):
        return value, batch, contracting
    return value.owner.operands[0], tuple(order[place] for place in batch), tuple(order[place] for place in contracting)


def _unmerge_rows(op: Any, rewrite: Rewrite) -> None:
    """Replace (B*S, K) x (K, N), whose rows were merged from (B, S), by (B, S, K) x (K, N), and merge the rows of the result."""
    left, right = op.operands
    numbers = Numbers.read(op)
    if not _is(left, *RESHAPES) or numbers.left_batch:
        return
    source = left.owner.operands[0]
    before, after = rewrite.known.dims(source), rewrite.known.dims(left)
    # where the first dim is still the first, only dims of size 1 were merged into it
    if 0 in numbers.left_contracting or before[:1] == after[:1]:
        return
    count = next((count for count in range(2, len(before)) if ex.product(before[:count]) == after[0]), None)
    if count is None:
        return
    apart, shape = before[:count] + after[1:], before[:count] + rewrite.known.dims(op.results[0])[1:]
    plain = Numbers((), (), tuple(place + count - 1 for place in numbers.left_contracting), numbers.right_contracting)
    rewrite.emitter.here = op
    with ir.InsertionPoint(op), op.location:
        rows = reshape(source, apart, rewrite)
        dot = create(op, tensor_type(shape, op.results[0]), [rows, right], plain)
    rewrite.known.learn_dims(dot.result, shape)
    rewrite.replace(op.results[0], create_move(rewrite.fold(dot), Move(shape, None), op, rewrite))


def _unmerge_batch(op: Any, rewrite: Rewrite) -> None:
    """Replace (B*H, M, K) x (B*H, K, N), both reshaped from (B, H, ...), by a dot over the two batch dims, and reshape its result."""
    numbers = Numbers.read(op)
    left, right = sources = [_split_batch(operand, rewrite) for operand in op.operands]
    if numbers.left_batch != (0,) or numbers.right_batch != (0,) or left is None or right is None:
        return
    counts = {len(rewrite.known.dims(source)) - len(rewrite.known.dims(operand)) + 1
              for source, operand in zip(sources, op.operands, strict=True)}
    if len(counts) != 1 or rewrite.known.dims(left)[: min(counts)] != rewrite.known.dims(right)[: min(counts)]:
        return
    count = counts.pop()
    batch = tuple(range(count))
    split = Numbers(batch, batch, tuple(place + count - 1 for place in numbers.left_contracting),
                    tuple(place + count - 1 for place in numbers.right_contracting))  # fmt: skip
    shape = rewrite.known.dims(left)[:count] + rewrite.known.dims(op.results[0])[1:]
    with ir.InsertionPoint(op), op.location:
        type_ = tensor_type(shape, op.results[0])
        dot = create(op, type_, [left, right], split)
        rewrite.known.learn_dims(dot.result, shape)
    rewrite.replace(op.results[0], create_move(rewrite.fold(dot), Move(shape, None), op, rewrite))


def _split_batch(value: Any, rewrite: Rewrite) -> Any | None:
    """Return the source of a reshape that only merged leading dims."""
    if not _is(value, "stablehlo.dynamic_reshape", "stablehlo.reshape"):
        return None
    source = value.owner.operands[0]
    before, after = rewrite.known.dims(source), rewrite.known.dims(value)
    count = len(before) - len(after) + 1
    merges = count > 1 and ex.product(before[:count]) == after[0] and before[count:] == after[1:]
    return source if merges else None


def _replace(op: Any, operands: Sequence[Any], numbers: Numbers, rewrite: Rewrite) -> Any:
    with ir.InsertionPoint(op), op.location:
        created = create(op, op.results[0].type, operands, numbers)
    rewrite.known.learn_dims(created.result, rewrite.known.dims(op.results[0]))
    rewrite.replace(op.results[0], created.result)
    return created


def create(op: Any, type_: ir.Type, operands: Sequence[Any], numbers: Numbers) -> Any:
    """Create a dot_general of other operands with the precision of `op`, at the insertion point."""
    attributes = {name: op.attributes[name] for name in ("precision_config", "algorithm") if name in op.attributes}
    return ir.Operation.create("stablehlo.dot_general", results=[type_], operands=list(operands),
                               attributes={**attributes, "dot_dimension_numbers": numbers.attribute()})


def _is(value: Any, *names: str) -> bool:
    return not isinstance(value.owner, ir.Block) and value.owner.name in names
