"""What the scalar and shape ops that torch-mlir leaves compute, as expressions: one rule an op."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch_mlir import ir

from lowering.legalize.inference.known import Known
from lowering.rules import Rules
from lowering.sizes import expression as ex
from lowering.sizes.expression import Expression

Values = tuple[Expression, ...]
Rule = Callable[[Any, Known], Values | None]

RULES: Rules[Rule] = Rules("lowering.legalize.inference.values")
_rule = RULES.of


def _binary(compute: Callable[[Expression, Expression], Expression]) -> Rule:
    def rule(op: Any, known: Known) -> Values | None:
        left, right = (known.values(operand) for operand in op.operands)
        if left is None or right is None:
            return None
        width = max(len(left), len(right))
        return tuple(compute(a, b) for a, b in zip(left * (width // len(left) or 1), right * (width // len(right) or 1), strict=True))

    return rule


for _names, _compute in {
    ("arith.addi", "stablehlo.add", "index.add"): Expression.__add__,
    ("arith.subi", "stablehlo.subtract", "index.sub"): Expression.__sub__,
    ("arith.muli", "stablehlo.multiply", "index.mul"): Expression.__mul__,
    ("arith.maxsi", "arith.maxui", "stablehlo.maximum"): ex.maximum,
    ("arith.minsi", "arith.minui", "stablehlo.minimum"): ex.minimum,
    ("arith.divui", "arith.floordivsi"): ex.floordiv,
    ("arith.ceildivsi", "arith.ceildivui"): ex.ceildiv,
    ("arith.remui",): ex.remainder,
}.items():
    _rule(*_names)(_binary(_compute))


@_rule("arith.divsi", "arith.remsi")
def _truncated(op: Any, known: Known) -> Values | None:
    """Rounds toward zero: floor division where both are known to be non-negative."""
    left, right = (known.values(operand) for operand in op.operands)
    if left is None or right is None:
        return None
    if left[0].is_at_least(0) and right[0].is_at_least(1):
        return (ex.floordiv(left[0], right[0]),) if op.name == "arith.divsi" else (ex.remainder(left[0], right[0]),)
    exact = ex.divide_exactly(left[0], right[0])
    return None if exact is None else (exact if op.name == "arith.divsi" else ex.ZERO,)


@_rule("arith.constant", "shape.const_shape", "shape.const_size", "stablehlo.constant", "index.constant")
def _constant(op: Any, known: Known) -> Values | None:
    attribute = op.attributes["shape" if op.name == "shape.const_shape" else "value"]
    if isinstance(attribute, ir.IntegerAttr | ir.FloatAttr | ir.BoolAttr):
        return _whole([attribute.value])
    if isinstance(attribute, ir.DenseElementsAttr) and len(attribute) <= _LARGEST:
        return _whole([attribute.get_splat_value().value] * len(attribute) if attribute.is_splat else list(attribute))
    return None


_LARGEST = 16  # elements; a longer constant is no shape


def _whole(numbers: list[Any]) -> Values | None:
    if all(number == number and abs(number) < 1 << 62 and int(number) == number for number in numbers):
        return tuple(ex.number(int(number)) for number in numbers)
    return None


@_rule("arith.index_cast", "arith.index_castui", "arith.extsi", "arith.extui", "arith.trunci", "arith.sitofp", "arith.fptosi",
       "tensor.cast", "shape.to_extent_tensor", "shape.from_extent_tensor", "shape.index_to_size", "shape.size_to_index",
       "stablehlo.reshape", "tensor.expand_shape", "tensor.collapse_shape", "shape.value_as_shape")  # fmt: skip
def _same(op: Any, known: Known) -> Values | None:
    return known.values(op.operands[0])


@_rule("stablehlo.convert")
def _convert(op: Any, known: Known) -> Values | None:
    values = known.values(op.operands[0])
    is_fraction = values is not None and any(atom.op == "ratio" for value in values for atom in value.atoms())
    return None if is_fraction and not known.is_float(op.results[0]) else values


@_rule("stablehlo.divide")
def _divide(op: Any, known: Known) -> Values | None:
    left, right = (known.values(operand) for operand in op.operands)
    if left is None or right is None or len(left) != 1 or len(right) != 1:
        return None
    exact = ex.divide_exactly(left[0], right[0])
    if exact is not None:
        return (exact,)
    if known.is_float(op.results[0]):
        return (ex.of_atom(ex.Atom("ratio", "", (left[0], right[0]), None, None)),) if right[0].is_at_least(1) else None
    is_floor = left[0].is_at_least(0) and right[0].is_at_least(1)
    return (ex.floordiv(left[0], right[0]),) if is_floor else None


@_rule("stablehlo.ceil", "math.ceil")
def _ceil(op: Any, known: Known) -> Values | None:
    return _rounded(known.values(op.operands[0]), ex.ceildiv)


@_rule("stablehlo.floor", "math.floor")
def _floor(op: Any, known: Known) -> Values | None:
    return _rounded(known.values(op.operands[0]), ex.floordiv)


def _rounded(values: Values | None, divide: Callable[[Expression, Expression], Expression]) -> Values | None:
    if values is None or len(values) != 1:
        return None
    ratio = next((atom for atom in values[0].atoms() if atom.op == "ratio"), None)
    if ratio is None:
        return values
    return (divide(*ratio.operands),) if values[0] == ex.of_atom(ratio) else None


@_rule("arith.cmpi")
def _compare(op: Any, known: Known) -> Values | None:
    left, right = (known.values(operand) for operand in op.operands)
    if left is None or right is None:
        return None
    predicate = ("eq", "ne", "lt", "le", "gt", "ge", "lt", "le", "gt", "ge")[op.attributes["predicate"].value]
    return (ex.compare(predicate, left[0], right[0]),)


@_rule("arith.select")
def _select(op: Any, known: Known) -> Values | None:
    parts = [known.values(operand) for operand in op.operands]
    return None if None in parts else (ex.select(parts[0][0], parts[1][0], parts[2][0]),)  # type: ignore[index]


@_rule("arith.andi")
def _and(op: Any, known: Known) -> Values | None:
    left, right = (known.values(operand) for operand in op.operands)
    return (left[0] * right[0],) if left is not None and right is not None and known.is_bool(op.results[0]) else None


@_rule("arith.ori")
def _or(op: Any, known: Known) -> Values | None:
    left, right = (known.values(operand) for operand in op.operands)
    if left is None or right is None or not known.is_bool(op.results[0]):
        return None
    return (left[0] + right[0] - left[0] * right[0],)


@_rule("arith.xori")
def _xor(op: Any, known: Known) -> Values | None:
    left, right = (known.values(operand) for operand in op.operands)
    if left is None or right is None or not known.is_bool(op.results[0]):
        return None
    return (left[0] + right[0] - ex.number(2) * left[0] * right[0],)


@_rule("tensor.dim", "shape.dim")
def _dim(op: Any, known: Known) -> Values | None:
    position = known.values(op.operands[1])
    return None if position is None or position[0].constant is None else (known.dims(op.operands[0])[position[0].constant],)


@_rule("stablehlo.get_dimension_size")
def _get_dimension_size(op: Any, known: Known) -> Values | None:
    return (known.dims(op.operands[0])[op.attributes["dimension"].value],)


@_rule("shape.shape_of")
def _shape_of(op: Any, known: Known) -> Values | None:
    return tuple(known.dims(op.operands[0]))


@_rule("shape.get_extent")
def _get_extent(op: Any, known: Known) -> Values | None:
    shape, position = (known.values(operand) for operand in op.operands)
    return None if shape is None or position is None or position[0].constant is None else (shape[position[0].constant],)


@_rule("shape.num_elements")
def _num_elements(op: Any, known: Known) -> Values | None:
    shape = known.values(op.operands[0])
    return None if shape is None else (ex.product(shape),)


@_rule("shape.broadcast")
def _broadcast(op: Any, known: Known) -> Values | None:
    shapes = [known.values(operand) for operand in op.operands]
    if None in shapes:
        return None
    result: Values = ()
    for shape in shapes:
        result = broadcast(result, shape)  # type: ignore[arg-type]
    return result


def broadcast(left: Values, right: Values) -> Values:
    """The common shape, aligned at the right. Dims that may differ are equal by the strict rule: a size that is not the int 1 does not broadcast."""
    width = max(len(left), len(right))
    left, right = (ex.ONE,) * (width - len(left)) + left, (ex.ONE,) * (width - len(right)) + right
    return tuple(b if a == ex.ONE or (b.constant not in (None, 1)) else a for a, b in zip(left, right, strict=True))


@_rule("tensor.from_elements", "shape.from_extents", "stablehlo.concatenate")
def _from_elements(op: Any, known: Known) -> Values | None:
    parts = [known.values(operand) for operand in op.operands]
    return None if None in parts else tuple(value for part in parts for value in part)  # type: ignore[union-attr]


@_rule("tensor.extract")
def _extract(op: Any, known: Known) -> Values | None:
    values, *indices = [known.values(operand) for operand in op.operands]
    if values is None or len(indices) > 1 or (indices and (indices[0] is None or indices[0][0].constant is None)):
        return None
    return (values[indices[0][0].constant if indices else 0],)  # type: ignore[index]


@_rule("stablehlo.slice")
def _slice(op: Any, known: Known) -> Values | None:
    values = known.values(op.operands[0])
    if values is None or len(op.attributes["start_indices"]) != 1:
        return None
    start, limit, stride = (op.attributes[name][0] for name in ("start_indices", "limit_indices", "strides"))
    return values[start:limit:stride]


@_rule("shape.cstr_broadcastable", "shape.cstr_eq", "shape.cstr_require", "shape.const_witness", "shape.assuming_all")
def _witness(op: Any, known: Known) -> Values | None:
    return ()
