"""Reductions of elements into data-dependent indices."""

from __future__ import annotations

from collections.abc import Sequence

from torch_mlir import ir

from lowering.torch_to_stablehlo.rewriting import Call, rule, tensor_type

_OPS = {"sum": "add", "prod": "multiply", "amax": "maximum", "amin": "minimum", "mean": "add"}


@rule("aten.scatter_reduce.two")
def _scatter_reduce(call: Call) -> Sequence[ir.Value] | None:
    """Lower aten::scatter_reduce.two(self, dim, index, src, reduce, include_self). Return None if src may be larger than index."""
    owner = getattr(call.op.operands[4].owner, "operation", None)
    if owner is None or owner.name != "torch.constant.str":
        return None
    reduce = owner.attributes["value"].value
    given, index, source = call.tensor(0), call.tensor(2), call.tensor(3)
    type_ = ir.RankedTensorType(given.type)
    if type_.rank == 0 or str(type_.element_type) == "i1":
        return None
    dim = call.constant(1) % type_.rank
    index_type, source_type = ir.RankedTensorType(index.type), ir.RankedTensorType(source.type)
    if any(a != b for a, b in zip(index_type.shape, source_type.shape, strict=True)):
        return None
    places = _make_coordinates(call, index, dim)
    element = str(type_.element_type)
    if not call.constant(5):
        given = _scatter(call, given, places, _fill(call, source, _neutral_element(reduce, element)), None)
    result = _scatter(call, given, places, source, _OPS[reduce])
    if reduce != "mean":
        return [result]
    start = _fill(call, given, 1 if call.constant(5) else 0)
    counts = _scatter(call, start, places, _fill(call, source, 1), "add")
    ones = _fill(call, given, 1)
    divisor = call.make("stablehlo.maximum", [counts, ones], counts.type)
    return [_divide(call, result, divisor)]


def _divide(call: Call, total: ir.Value, count: ir.Value) -> ir.Value:
    """Divide, and round the quotient of integers down."""
    quotient = call.make("stablehlo.divide", [total, count], total.type)
    type_ = ir.RankedTensorType(total.type)
    if not isinstance(type_.element_type, ir.IntegerType):
        return quotient
    rest = call.make("stablehlo.remainder", [total, count], total.type)
    negative = call.make("stablehlo.compare", [rest, _fill(call, total, 0)], tensor_type(list(type_.shape), "i1"),
                         comparison_direction="#stablehlo<comparison_direction LT>")  # fmt: skip
    lower = call.make("stablehlo.subtract", [quotient, _fill(call, total, 1)], total.type)
    return call.make("stablehlo.select", [negative, lower, quotient], total.type)


def _make_coordinates(call: Call, index: ir.Value, dim: int) -> ir.Value:
    """Return the full coordinates of each element (..., rank). Only those along `dim` come from `index`."""
    type_ = ir.RankedTensorType(index.type)
    shape = list(type_.shape)
    columns = []
    for position in range(type_.rank):
        column = index if position == dim else call.make(
            "stablehlo.dynamic_iota", [call.shape(index)], index.type, iota_dimension=f"{position} : i64")  # fmt: skip
        wanted = call.extents([*call.dims(index), call.index(1)])
        columns.append(call.make("stablehlo.dynamic_reshape", [column, wanted], tensor_type([*shape, 1], str(type_.element_type))))
    if len(columns) == 1:
        return columns[0]
    joined = tensor_type([*shape, len(columns)], str(type_.element_type))
    return call.make("stablehlo.concatenate", columns, joined, dimension=f"{type_.rank} : i64")


def _scatter(call: Call, given: ir.Value, places: ir.Value, updates: ir.Value, op: str | None) -> ir.Value:
    """Write single elements to the coordinates `places` of `given`. See `scatter`."""
    rank = ir.RankedTensorType(given.type).rank
    every = list(range(rank))
    numbers = f"inserted_window_dims = {every}, scatter_dims_to_operand_dims = {every}, index_vector_dim = {rank}"
    return scatter(call, given, places, updates, op, numbers)


def scatter(call: Call, given: ir.Value, places: ir.Value, updates: ir.Value, op: str | None, numbers: str) -> ir.Value:
    """Write `updates` to the indices `places` of `given`.

    They are combined with the old elements by `op`, or replace them if `op` is None. numbers: the text of StableHLO's attribute.
    """
    scattered = ir.Operation.create(
        "stablehlo.scatter", results=[given.type], operands=[given, places, updates], regions=1,
        attributes={"scatter_dimension_numbers": ir.Attribute.parse(f"#stablehlo.scatter<{numbers}>"),
                    "indices_are_sorted": ir.BoolAttr.get(False), "unique_indices": ir.BoolAttr.get(False)},
    )  # fmt: skip
    fill_body(call, scattered, op)
    return scattered.result


def fill_body(call: Call, owner: ir.Operation, op: str | None) -> None:
    """Fill the region of a scatter or reduction: two elements are combined by `op`, or the second one is kept if it is None."""
    scalar = ir.RankedTensorType.get([], ir.RankedTensorType(owner.operands[0].type).element_type)
    block = owner.regions[0].blocks.append(scalar, scalar)
    with ir.InsertionPoint(block):
        combined = block.arguments[1] if op is None else call.make(f"stablehlo.{op}", list(block.arguments), scalar)
        ir.Operation.create("stablehlo.return", operands=[combined])


def _neutral_element(reduce: str, element: str) -> float | int:
    """Return the neutral element of a reduction."""
    if reduce in ("sum", "mean"):
        return 0
    if reduce == "prod":
        return 1
    sign = 1 if reduce == "amin" else -1
    if element.startswith(("f", "bf")):
        return sign * float("inf")
    width = int(element.lstrip("ui"))
    if element.startswith("ui"):
        return 0 if reduce == "amax" else (1 << width) - 1
    return (1 << (width - 1)) - 1 if reduce == "amin" else -(1 << (width - 1))


def _fill(call: Call, like: ir.Value, number: float | int) -> ir.Value:
    """Return a tensor of one number, with the dims and element type of `like`."""
    element = str(ir.RankedTensorType(like.type).element_type)
    if isinstance(number, float):
        attribute = ir.FloatAttr.get(ir.Type.parse(element), number)
    else:
        attribute = ir.Attribute.parse(f"{float(number) if element.startswith(('f', 'bf')) else number} : {element}")
    return call.make("chlo.constant_like", [like], like.type, value=attribute)

