"""Write `!quant.uniform` types: composites that quantize and dequantize become ops on these types, and so do the products between them.

A type holds its scales, so these must be constants: literals of the program, or weights, which are read here. What no type can hold stays
arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch._subclasses.fake_tensor import FakeTensor
from torch_mlir import ir
from torch_mlir._mlir_libs import _stablehlo as hlo

from lowering.ir import builtin, composites, mlir
from lowering.ir.quantized_types import LONGEST_BYTE_SUM, Uniform
from lowering.legalize.patterns.dots import Numbers
from lowering.signature import Signature

NAMES = QUANTIZE, DEQUANTIZE = "pytorch.quantize", "pytorch.dequantize"
_PRODUCTS = ("stablehlo.dot_general", "stablehlo.convolution")
_MOVES = ("stablehlo.reshape", "stablehlo.dynamic_reshape", "stablehlo.broadcast_in_dim", "stablehlo.dynamic_broadcast_in_dim")
_OFFSET = 128  # from ui8 to i8, because both operands of a product have the same storage
_SCALES = (2.0**-126, 2.0**127)  # of the types


@dataclass(frozen=True)
class Untyped:
    """A composite that no type can hold. It becomes plain ops."""

    name: str
    cause: str
    line: str


class _Unfit(Exception):
    """A quantization that no type can hold. The message says why."""


def is_quantization(module: Any) -> bool:
    """Return whether a module holds a composite that types can be written for."""
    return any(op.name == composites.OP and op.attributes["name"].value in NAMES for op in mlir.walk_operations(module))


def write(module: Any, signature: Signature, weights: Mapping[str, torch.Tensor]) -> list[Untyped]:
    """Replace quantizations and products of quantized operands in `@main`, in place, and return those that became plain ops."""
    names = [argument.name for argument in signature.arguments]
    kinds = [argument.kind for argument in signature.arguments]

    def find_constant(value: Any) -> torch.Tensor:
        number = ir.BlockArgument(value).arg_number if isinstance(value.owner, ir.Block) else None
        tensor = weights.get(names[number]) if number is not None and kinds[number] != "input" else None
        if tensor is None or isinstance(tensor, FakeTensor):
            raise _Unfit("its scale or zero point is computed at run time" if tensor is None else "its weights have no values")
        return tensor

    main = mlir.find_entry(module)
    found = [op for op in mlir.walk_operations(main) if op.name == composites.OP and op.attributes["name"].value in NAMES]
    with module.context, ir.Location.unknown():
        uniforms: dict[Any, Uniform] = {}
        untyped: list[Untyped] = []
        for op in found:
            try:
                uniforms[op] = _read(op, find_constant)
            except _Unfit as error:
                untyped.append(Untyped(op.attributes["name"].value, str(error), str(op.location)))
        _keep_pairs(found, uniforms, untyped)
        plain = [op for op in found if op not in uniforms]
        _write_products(main, _write_ends(found, uniforms))
        for op in plain:
            composites.expand(module, op)
    mlir.run(module, "builtin.module(symbol-dce,func.func(canonicalize,cse))", "quantized types")
    return untyped


def _read(op: Any, find_constant: Callable[[Any], torch.Tensor]) -> Uniform:
    """Return the type that a composite quantizes to, or dequantizes from, with ui8 shifted to i8. Raises _Unfit."""
    attributes = op.attributes["composite_attributes"]
    given = {item.name: item.attr for item in attributes}
    operands = dict(zip((each.value for each in given["operands"]), op.operands, strict=True))
    is_quantize = op.attributes["name"].value == QUANTIZE
    stored = op.results[0] if is_quantize else op.operands[0]
    floats = op.operands[0] if is_quantize else op.results[0]
    shape, storage = list(ir.RankedTensorType(stored.type).shape), builtin.read_element(stored)
    if storage not in ("i8", "ui8") or builtin.read_element(floats) != "f32":
        raise _Unfit(f"it is of {storage} and {builtin.read_element(floats)}; types are of i8 or ui8 and f32")
    if "group_size" in given:
        raise _Unfit("its elements share scales in groups")

    def number(*keys: str) -> torch.Tensor | None:
        for key in keys:
            if key in given:
                return torch.tensor(given[key].value, dtype=torch.float64)
            if key in operands:
                return find_constant(operands[key])
        return None

    scale, point = number("scale", "scales"), number("zero_point", "zero_points")
    if scale is None:
        raise _Unfit("it has no scale")
    offset = _OFFSET if storage == "ui8" else 0
    low, high = (given[key].value if key in given else end for key, end in (("quant_min", offset - 128), ("quant_max", offset + 127)))
    axis = _find_axis(given, shape, scale.numel())
    scales = tuple(scale.double().reshape(-1).tolist())
    if not all(math.isfinite(each) and _SCALES[0] <= each <= _SCALES[1] for each in scales):
        raise _Unfit("a scale is not a normal float32")
    points = [0] if point is None else sorted(set(point.reshape(-1).tolist()))
    if len(points) > 1 or (axis is not None and (points != [0] or offset)):
        raise _Unfit("its channels have zero points")
    return Uniform(int(low) - offset, int(high) - offset, scales, int(points[0]) - offset, axis)


def _find_axis(given: Mapping[str, Any], shape: Sequence[int], count: int) -> int | None:
    """Return the dim whose positions have scales of their own, or None for one scale. Raises _Unfit for blocks."""
    if "axis" in given:
        return int(given["axis"].value) % len(shape)
    if "block_size" in given:
        block = [int(each) for each in given["block_size"]]
        split = [position for position, (size, step) in enumerate(zip(shape, block, strict=True)) if size != step]
        if not split and count == 1:
            return None
        if len(split) == 1 and block[split[0]] == 1 and count == shape[split[0]]:
            return split[0]
        raise _Unfit("its elements share scales in blocks")
    if count != 1:
        raise _Unfit("its rows have scales of their own")
    return None


def _keep_pairs(found: Sequence[Any], uniforms: dict[Any, Uniform], untyped: list[Untyped]) -> None:
    """Drop the types of quantizations whose integers are used elsewhere, and of those that dequantize other bytes of ui8."""

    def drop(op: Any, cause: str) -> None:
        del uniforms[op]
        untyped.append(Untyped(op.attributes["name"].value, cause, str(op.location)))

    for op in found:
        is_quantize = op in uniforms and op.attributes["name"].value == QUANTIZE
        if is_quantize and any(uniforms.get(use.owner) != uniforms[op] for use in op.results[0].uses):
            drop(op, "other ops use its integers")
    for op in found:
        if op in uniforms and op.attributes["name"].value == DEQUANTIZE:
            source = op.operands[0]
            is_typed = not isinstance(source.owner, ir.Block) and source.owner in uniforms
            if not is_typed and builtin.read_element(source) == "ui8":
                drop(op, "its integers are of ui8")


def _write_ends(found: Sequence[Any], uniforms: Mapping[Any, Uniform]) -> dict[Any, tuple[Any, Uniform]]:
    """Replace the composites by ops on types. Return the source and its type of each dequantized value."""
    made: dict[Any, Any] = {}
    typed: dict[Any, tuple[Any, Uniform]] = {}
    chosen = [op for op in found if op in uniforms]
    for op in chosen:
        uniform, source = uniforms[op], op.operands[0]
        with ir.InsertionPoint(op), op.location:
            type_ = uniform.build(ir, _read_shape(source))
            if op.attributes["name"].value == QUANTIZE:
                made[op.results[0]] = ir.Operation.create("stablehlo.uniform_quantize", results=[type_], operands=[source]).result
                continue
            stored = made.get(source)
            if stored is None:
                stored = ir.Operation.create("stablehlo.bitcast_convert", results=[type_], operands=[source]).result
            floats = ir.Operation.create("stablehlo.uniform_dequantize", results=[op.results[0].type], operands=[stored]).result
        typed[floats] = (stored, uniform)
        op.results[0].replace_all_uses_with(floats)
    for op in reversed(chosen):
        op.erase()
    return typed


def _write_products(main: Any, typed: Mapping[Any, tuple[Any, Uniform]]) -> None:
    """Replace dots and convolutions of dequantized operands by those of quantized ones, with sums of i32."""
    for op in [op for op in mlir.walk_operations(main) if op.name in _PRODUCTS]:
        left, right = (_peel(operand, typed) for operand in op.operands)
        if left is None or right is None or left[1].axis is not None or right[1].point or not 0 < _count_terms(op) <= LONGEST_BYTE_SUM:
            continue
        axis = right[1].axis
        if axis is not None and (axis := _find_result_dim(op, axis)) is None:
            continue
        scales = tuple(left[1].scales[0] * scale for scale in right[1].scales)
        if not all(_SCALES[0] <= scale <= _SCALES[1] for scale in scales):
            continue
        sum_ = Uniform(-(1 << 31), (1 << 31) - 1, scales, 0, axis, 32)
        attributes = {name: op.attributes[name] for name in op.attributes if name != "precision_config"}
        with ir.InsertionPoint(op), op.location:
            product = ir.Operation.create(op.name, results=[sum_.build(ir, _read_shape(op.results[0]))], operands=[left[0], right[0]],
                                          attributes=attributes).result
            floats = ir.Operation.create("stablehlo.uniform_dequantize", results=[op.results[0].type], operands=[product]).result
        op.results[0].replace_all_uses_with(floats)
        op.erase()


def _peel(value: Any, typed: Mapping[Any, tuple[Any, Uniform]]) -> tuple[Any, Uniform] | None:
    """Return the quantized tensor that `value` is the dequantization of, with moves between the two done on the quantized one."""
    if value in typed:
        return typed[value]
    if isinstance(value.owner, ir.Block) or value.owner.name not in (*_MOVES, "stablehlo.transpose"):
        return None
    op = value.owner
    peeled = _peel(op.operands[0], typed)
    if peeled is None or (op.name in _MOVES and peeled[1].axis is not None):
        return None
    source, uniform = peeled
    if uniform.axis is not None:
        uniform = replace(uniform, axis=list(op.attributes["permutation"]).index(uniform.axis))
    attributes = {name: op.attributes[name] for name in op.attributes}
    with ir.InsertionPoint(op), op.location:
        moved = ir.Operation.create(op.name, results=[uniform.build(ir, _read_shape(value))], operands=[source, *list(op.operands)[1:]],
                                    attributes=attributes).result
    return moved, uniform


def _count_terms(op: Any) -> int:
    """Return how many products are summed for an element of a dot or convolution; 0 if that depends on a dynamic dim."""
    right = _read_shape(op.operands[1])
    if op.name == "stablehlo.dot_general":
        sizes = [right[position] for position in Numbers.read(op).right_contracting]
    else:
        numbers = hlo.ConvDimensionNumbers(op.attributes["dimension_numbers"])
        sizes = [size for position, size in enumerate(right) if position != numbers.kernel_output_feature_dimension]
    return 0 if any(size < 0 for size in sizes) else math.prod(sizes)


def _find_result_dim(op: Any, axis: int) -> int | None:
    """Return the dim of the result that dim `axis` of the right operand becomes, or None if it is summed."""
    if op.name == "stablehlo.convolution":
        numbers = hlo.ConvDimensionNumbers(op.attributes["dimension_numbers"])
        return numbers.output_feature_dimension if axis == numbers.kernel_output_feature_dimension else None
    numbers = Numbers.read(op)
    if axis in numbers.right_contracting:
        return None
    if axis in numbers.right_batch:
        return numbers.right_batch.index(axis)
    free = [position for position in range(len(_read_shape(op.operands[1])))
            if position not in (*numbers.right_batch, *numbers.right_contracting)]
    return len(_read_shape(op.results[0])) - len(free) + free.index(axis)


def _read_shape(value: Any) -> list[int]:
    """Return the sizes of a tensor, -1 for a dynamic one."""
    type_ = ir.RankedTensorType(value.type)
    return [-1 if type_.is_dynamic_dim(position) else type_.get_dim_size(position) for position in range(type_.rank)]
