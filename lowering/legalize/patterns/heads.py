"""Products with a weight whose result is split, or whose argument is merged, into attention heads: the weight is reshaped instead.

reshape(x W + b) = x reshape(W) + reshape(b), and reshape(x) W = x reshape(W): a weight's dims are ints, so its reshape is static.
"""

from __future__ import annotations

from typing import Any

from torch_mlir import ir

from lowering.legalize.inference.known import is_static, tensor_type
from lowering.legalize.inference.matchers import BROADCASTS, RESHAPES
from lowering.legalize.inference.shapes import integers
from lowering.legalize.patterns.dots import Numbers, create
from lowering.legalize.patterns.movement import SINKABLE, broadcast
from lowering.legalize.rewriter import Rewrite
from lowering.sizes import expression as ex


def split(op: Any, rewrite: Rewrite) -> None:
    """Move a reshape that splits the last dim of a product into static parts into the product, past sums and splats."""
    before, after = rewrite.known.dims(op.operands[0]), rewrite.known.dims(op.results[0])
    count = len(after) - len(before) + 1
    parts = after[-count:]
    is_split = count > 1 and len(before) > 0 and before[:-1] == after[:-count] and is_static((before[-1], *parts))
    if is_split and _can_split(op.operands[0], rewrite):
        rewrite.emitter.here = op
        with ir.InsertionPoint(op), op.location:
            rewrite.replace(op.results[0], _split(op.operands[0], parts, rewrite))


def _can_split(value: Any, rewrite: Rewrite) -> bool:
    """Return whether `value` is a product, or arithmetic with one, that only its reshape uses."""
    if isinstance(value.owner, ir.Block):
        return False
    op, width = value.owner, rewrite.known.dims(value)[-1]
    if op.name in BROADCASTS:
        places, source = integers(op, "broadcast_dimensions"), rewrite.known.dims(op.operands[0])
        spans = bool(places) and places[-1] == len(rewrite.known.dims(value)) - 1
        return places == sorted(places) and (not spans or (source[-1] == width and is_static(source)))
    if len(rewrite.users(value)) != 1:
        return False
    if op.name == "stablehlo.dot_general":
        right, numbers = rewrite.known.dims(op.operands[1]), Numbers.read(op)
        taken = (*numbers.right_batch, *numbers.right_contracting)
        return is_static(right) and any(position not in taken for position in range(len(right)))
    ranks = {len(rewrite.known.dims(operand)) for operand in op.operands}
    has_product = any(not isinstance(operand.owner, ir.Block) and operand.owner.name not in BROADCASTS for operand in op.operands)
    return op.name in SINKABLE and len(ranks) == 1 and has_product and all(_can_split(operand, rewrite) for operand in op.operands)


def _split(value: Any, parts: ex.Shape, rewrite: Rewrite) -> Any:
    """Return `value` with its last dim split into `parts`. New ops are inserted at the current insertion point."""
    op, shape = value.owner, rewrite.known.dims(value)[:-1] + parts
    if op.name in BROADCASTS:
        source, places = op.operands[0], integers(op, "broadcast_dimensions")
        if places and places[-1] == len(shape) - len(parts):
            source = _reshape(source, rewrite.known.dims(source)[:-1] + parts, rewrite)
            places = places[:-1] + list(range(len(shape) - len(parts), len(shape)))
        return broadcast(source, tuple(places), shape, rewrite)
    if op.name == "stablehlo.dot_general":
        right, numbers = _contract_first(op.operands[1], Numbers.read(op), rewrite)
        dims = rewrite.known.dims(right)
        last = max(position for position in range(len(dims)) if position not in (*numbers.right_batch, *numbers.right_contracting))
        more = len(parts) - 1
        weight = _reshape(right, dims[:last] + parts + dims[last + 1 :], rewrite)
        moved = Numbers(numbers.left_batch, _shift(numbers.right_batch, last, more), numbers.left_contracting,
                        _shift(numbers.right_contracting, last, more))  # fmt: skip
        created = create(op, tensor_type(shape, value), [op.operands[0], weight], moved)
    else:
        operands = [_split(operand, parts, rewrite) for operand in op.operands]
        created = ir.Operation.create(op.name, results=[tensor_type(shape, value)], operands=operands,
                                      attributes=dict(op.attributes.items()))
    rewrite.known.learn_dims(created.result, shape)
    return created.result


def _contract_first(weight: Any, numbers: Numbers, rewrite: Rewrite) -> tuple[Any, Numbers]:
    """Transpose a weight so that its contracted dims precede the free ones, with the numbers of its product then.

    A compiler folds the transpose into the product. It would not look for one after the reshape into heads, and copy the weight in each
    run.
    """
    dims = rewrite.known.dims(weight)
    taken = (*numbers.right_batch, *numbers.right_contracting)
    order = [*taken, *(position for position in range(len(dims)) if position not in taken)]
    if order == sorted(order):
        return weight, numbers
    shape = tuple(dims[position] for position in order)
    created = ir.Operation.create("stablehlo.transpose", results=[tensor_type(shape, weight)], operands=[weight],
                                  attributes={"permutation": ir.DenseI64ArrayAttr.get(order)})
    rewrite.known.learn_dims(created.result, shape)
    batch, count = len(numbers.right_batch), len(taken)
    return created.result, Numbers(numbers.left_batch, tuple(range(batch)), numbers.left_contracting, tuple(range(batch, count)))


def unmerge_contraction(op: Any, rewrite: Rewrite) -> Any | None:
    """Remove the reshape of the left operand of a product that merges static dims into the contracted one.

    Only where that dim of the weight comes first: XLA copies others to contract several of their dims.
    """
    left, right = op.operands
    numbers = Numbers.read(op)
    if isinstance(left.owner, ir.Block) or left.owner.name not in RESHAPES or len(numbers.left_contracting) != 1 or numbers.left_batch:
        return None
    source = left.owner.operands[0]
    before, after, weight = (rewrite.known.dims(value) for value in (source, left, right))
    count = len(before) - len(after) + 1
    is_merged = count > 1 and before[: len(after) - 1] == after[:-1]
    is_first = numbers.left_contracting == (len(after) - 1,) and numbers.right_contracting == (0,)
    if not is_merged or not is_first or not is_static(before[-count:]) or not is_static(weight):
        return None
    with ir.InsertionPoint(op), op.location:
        split_weight = _reshape(right, before[-count:] + weight[1:], rewrite)
        moved = Numbers((), (), tuple(range(len(before) - count, len(before))), tuple(range(count)))
        created = create(op, op.results[0].type, [source, split_weight], moved)
    rewrite.known.learn_dims(created.result, rewrite.known.dims(op.results[0]))
    rewrite.replace(op.results[0], created.result)
    return created


def _reshape(value: Any, shape: ex.Shape, rewrite: Rewrite) -> Any:
    created = ir.Operation.create("stablehlo.reshape", results=[tensor_type(shape, value)], operands=[value])
    rewrite.known.learn_dims(created.result, shape)
    return created.result


def _shift(places: tuple[int, ...], behind: int, by: int) -> tuple[int, ...]:
    return tuple(place + by if place > behind else place for place in places)
