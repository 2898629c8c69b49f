"""Infer the dims of the results of StableHLO ops from those of the operands, by one rule per op."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch_mlir import ir
from torch_mlir._mlir_libs import _stablehlo as hlo

from lowering.legalize.inference.known import Known
from lowering.rules import Rules
from lowering.sizes import arithmetic
from lowering.sizes import expression as ex
from lowering.sizes.expression import Expression, Shape
from lowering.sizes.ranges import ceildiv

Rule = Callable[[Any, Known], Shape | None]

ELEMENTWISE = frozenset(
    f"stablehlo.{name}"
    for name in (
        "abs add and atan2 cbrt ceil complex convert cosine count_leading_zeros divide exponential exponential_minus_one floor "
        "imag is_finite log log_plus_one logistic maximum minimum multiply negate not or popcnt power real reduce_precision "
        "remainder round_nearest_afz round_nearest_even rsqrt shift_left shift_right_arithmetic shift_right_logical sign sine "
        "sqrt subtract tan tanh xor compare bitcast_convert optimization_barrier reverse sort cholesky"
    ).split()
)

RULES: Rules[Rule] = Rules("lowering.legalize.inference.shapes")
_rule = RULES.register


def dims(op: Any, known: Known) -> list[Shape | None]:
    """Infer the dims of each result; None if there is no rule."""
    if op.name in ELEMENTWISE or (op.name.startswith("chlo.") and len(op.results) == 1 and not op.regions):
        return _elementwise(op, known)
    rule = RULES.get(op.name)
    return [rule(op, known)] * len(op.results) if rule else [None] * len(op.results)


def shape_operand(name: str) -> int | None:
    """Return the index of the operand of a dynamic op that is its result's shape."""
    return {"stablehlo.dynamic_broadcast_in_dim": 1, "stablehlo.dynamic_reshape": 1, "stablehlo.dynamic_iota": 0,
            "stablehlo.rng": 2}.get(name)


def integers(op: Any, name: str) -> list[int]:
    return list(op.attributes[name])


def _elementwise(op: Any, known: Known) -> list[Shape | None]:
    """Infer from operands of one shape: at each position, prefer a dim that is an int."""
    shapes = [known.dims(operand) for operand in op.operands]
    found: list[Shape | None] = []
    for index, result in enumerate(op.results):
        rank = ir.RankedTensorType(result.type).rank
        fitting = [shape for shape in shapes if len(shape) == rank]
        if op.name in ("stablehlo.sort", "stablehlo.optimization_barrier"):
            fitting = [shapes[index]]
        if op.name == "stablehlo.bitcast_convert" and rank != len(shapes[0]):
            fitting = []
        found.append(tuple(map(_definite, zip(*fitting, strict=True))) if fitting else None)
    return found


def _definite(candidates: Sequence[Expression]) -> Expression:
    return next((dim for dim in candidates if dim.constant is not None), candidates[0])


@_rule("stablehlo.dynamic_broadcast_in_dim", "stablehlo.dynamic_reshape", "stablehlo.dynamic_iota", "stablehlo.rng")
def _read_shape_operand(op: Any, known: Known) -> Shape | None:
    index = shape_operand(op.name)
    return known.values(op.operands[index])  # type: ignore[index]


@_rule("stablehlo.select")
def _select(op: Any, known: Known) -> Shape | None:
    return known.dims(op.operands[1])


@_rule("stablehlo.clamp", "stablehlo.triangular_solve")
def _second(op: Any, known: Known) -> Shape | None:
    return known.dims(op.operands[1])


@_rule("stablehlo.transpose")
def _transpose(op: Any, known: Known) -> Shape | None:
    shape = known.dims(op.operands[0])
    return tuple(shape[position] for position in integers(op, "permutation"))


@_rule("stablehlo.concatenate")
def _concatenate(op: Any, known: Known) -> Shape | None:
    axis = op.attributes["dimension"].value
    shapes = [known.dims(operand) for operand in op.operands]
    joined = sum((shape[axis] for shape in shapes[1:]), shapes[0][axis])
    return tuple(joined if position == axis else _definite(column) for position, column in enumerate(zip(*shapes, strict=True)))


@_rule("stablehlo.dot_general")
def _dot_general(op: Any, known: Known) -> Shape | None:
    left, right = (known.dims(operand) for operand in op.operands)
    numbers = hlo.DotDimensionNumbers(op.attributes["dot_dimension_numbers"])
    batch = list(numbers.lhs_batching_dimensions)
    used_left = {*batch, *numbers.lhs_contracting_dimensions}
    used_right = {*numbers.rhs_batching_dimensions, *numbers.rhs_contracting_dimensions}
    pairs = zip(batch, numbers.rhs_batching_dimensions, strict=True)
    return (
        tuple(_definite((left[a], right[b])) for a, b in pairs)
        + tuple(dim for position, dim in enumerate(left) if position not in used_left)
        + tuple(dim for position, dim in enumerate(right) if position not in used_right)
    )


@_rule("stablehlo.reduce")
def _reduce(op: Any, known: Known) -> Shape | None:
    removed = set(integers(op, "dimensions"))
    return tuple(dim for position, dim in enumerate(known.dims(op.operands[0])) if position not in removed)


@_rule("stablehlo.gather")
def _gather(op: Any, known: Known) -> Shape | None:
    return _infer_gather(op, known, [ex.number(size) for size in integers(op, "slice_sizes")])


@_rule("stablehlo.dynamic_gather")
def _dynamic_gather(op: Any, known: Known) -> Shape | None:
    sizes = known.values(op.operands[2])
    return None if sizes is None else _infer_gather(op, known, list(sizes))


def _infer_gather(op: Any, known: Known, sizes: list[Expression]) -> Shape:
    numbers = hlo.GatherDimensionNumbers(op.attributes["dimension_numbers"])
    indices = list(known.dims(op.operands[1]))
    if numbers.index_vector_dim < len(indices):
        del indices[numbers.index_vector_dim]
    removed = {*numbers.collapsed_slice_dims, *numbers.operand_batching_dims}
    kept = iter([size for position, size in enumerate(sizes) if position not in removed])
    offsets = set(numbers.offset_dims)
    batch = iter(indices)
    return tuple(next(kept) if position in offsets else next(batch) for position in range(len(indices) + len(offsets)))


@_rule("stablehlo.scatter", "stablehlo.dynamic_update_slice", "stablehlo.batch_norm_inference")
def _first(op: Any, known: Known) -> Shape | None:
    return known.dims(op.operands[0])


@_rule("stablehlo.slice")
def _slice(op: Any, known: Known) -> Shape | None:
    bounds = zip(*(integers(op, name) for name in ("start_indices", "limit_indices", "strides")), strict=True)
    return tuple(ex.number(ceildiv(limit - start, stride)) for start, limit, stride in bounds)


@_rule("stablehlo.real_dynamic_slice")
def _real_dynamic_slice(op: Any, known: Known) -> Shape | None:
    starts, limits, strides = (known.values(operand) for operand in op.operands[1:])
    if starts is None or limits is None or strides is None:
        return None
    return tuple(arithmetic.ceildiv(limit - start, stride) for start, limit, stride in zip(starts, limits, strides, strict=True))


@_rule("stablehlo.pad", "stablehlo.dynamic_pad")
def _pad(op: Any, known: Known) -> Shape | None:
    shape = known.dims(op.operands[0])
    if op.name == "stablehlo.pad":
        edges = [[ex.number(size) for size in integers(op, name)] for name in ("edge_padding_low", "edge_padding_high", "interior_padding")]
    else:
        edges = [known.values(operand) for operand in op.operands[2:5]]  # type: ignore[misc]
    if None in edges:
        return None
    return tuple(
        dim + low + high + inner * arithmetic.maximum(dim - ex.ONE, ex.ZERO) if inner != ex.ZERO else dim + low + high
        for dim, low, high, inner in zip(shape, *edges, strict=True)
    )


@_rule("stablehlo.convolution")
def _convolution(op: Any, known: Known) -> Shape | None:
    numbers = hlo.ConvDimensionNumbers(op.attributes["dimension_numbers"])
    image, kernel = known.dims(op.operands[0]), known.dims(op.operands[1])
    groups = op.attributes["batch_group_count"].value
    result: dict[int, Expression] = {
        numbers.output_batch_dimension: arithmetic.floordiv(image[numbers.input_batch_dimension], ex.number(groups)),
        numbers.output_feature_dimension: kernel[numbers.kernel_output_feature_dimension],
    }
    windows = _windows(op, len(numbers.input_spatial_dimensions), lhs="lhs_dilation", rhs="rhs_dilation")
    places = zip(numbers.output_spatial_dimensions, numbers.input_spatial_dimensions, numbers.kernel_spatial_dimensions, windows,
                 strict=True)
    for output, source, window, settings in places:
        result[output] = _count_windows(image[source], kernel[window], *settings)
    return tuple(result[position] for position in range(len(image)))


@_rule("stablehlo.reduce_window")
def _reduce_window(op: Any, known: Known) -> Shape | None:
    shape = known.dims(op.operands[0])
    windows = _windows(op, len(shape), lhs="base_dilations", rhs="window_dilations")
    sizes = integers(op, "window_dimensions")
    return tuple(_count_windows(dim, ex.number(size), *settings) for dim, size, settings in zip(shape, sizes, windows, strict=True))


def _windows(op: Any, count: int, lhs: str, rhs: str) -> list[tuple[int, int, int, int, int]]:
    """Return (stride, padding low, padding high, base dilation, window dilation) of each spatial dim."""

    def values(name: str, default: int) -> list[int]:
        return integers(op, name) if name in op.attributes else [default] * count

    padding = [int(edge) for edge in op.attributes["padding"]] if "padding" in op.attributes else [0] * (2 * count)
    return list(zip(values("window_strides", 1), padding[::2], padding[1::2], values(lhs, 1), values(rhs, 1), strict=True))


def _count_windows(dim: Expression, window: Expression, stride: int, low: int, high: int, base: int, dilation: int) -> Expression:
    dilated = (dim - ex.ONE) * ex.number(base) + ex.ONE if base != 1 else dim
    reach = (window - ex.ONE) * ex.number(dilation) + ex.ONE
    return arithmetic.floordiv(dilated + ex.number(low + high) - reach, ex.number(stride)) + ex.ONE
