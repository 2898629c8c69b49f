"""Evaluate the scalar and shape ops that torch-mlir leaves as expressions, by one rule per op."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch_mlir import ir

from lowering.legalize.inference.known import Known
from lowering.rules import Rules
from lowering.sizes import arithmetic, operations, real
from lowering.sizes import expression as ex
from lowering.sizes.expression import Expression, Value
from lowering.sizes.real import Real

Values = tuple[Value, ...]
Rule = Callable[[Any, Known], Values | None]

RULES: Rules[Rule] = Rules("lowering.legalize.inference.values")
_rule = RULES.register


def _ints(op: Any, known: Known) -> list[tuple[Expression, ...]] | None:
    found = [known.values(operand) for operand in op.operands]
    return None if None in found else found  # type: ignore[return-value]


def _binary(compute: Callable[..., Value]) -> Rule:
    def rule(op: Any, known: Known) -> Values | None:
        operands = _ints(op, known)
        if operands is None:
            return None
        left, right = operands
        width = max(len(left), len(right))
        return tuple(compute(a, b) for a, b in zip(left * (width // len(left) or 1), right * (width // len(right) or 1), strict=True))

    return rule


def _float(compute: Callable[..., Value]) -> Rule:
    """Compute float64 scalars as Python does."""

    def rule(op: Any, known: Known) -> Values | None:
        operands = [known.numbers(operand) for operand in op.operands]
        if not _is_float64(op.operands[-1]) or any(values is None or len(values) != 1 for values in operands):
            return None
        return (compute(*(values[0] for values in operands if values is not None)),)

    return rule


def _is_float64(value: Any) -> bool:
    return isinstance(value.type, ir.F64Type)


for _names, _compute in {
    ("arith.addi", "stablehlo.add", "index.add"): Expression.__add__,
    ("arith.subi", "stablehlo.subtract", "index.sub"): Expression.__sub__,
    ("arith.muli", "stablehlo.multiply", "index.mul"): Expression.__mul__,
    ("arith.maxsi", "arith.maxui", "stablehlo.maximum"): arithmetic.maximum,
    ("arith.minsi", "arith.minui", "stablehlo.minimum"): arithmetic.minimum,
    ("arith.divui",): arithmetic.floordiv,
    ("arith.floordivsi",): operations.floor_quotient,
    ("arith.ceildivsi",): lambda left, right: -operations.floor_quotient(-left, right),
    ("arith.ceildivui",): arithmetic.ceildiv,
    ("arith.remui",): arithmetic.remainder,
}.items():
    _rule(*_names)(_binary(_compute))

_OF_FLOATS: dict[str, Callable[..., Value]] = {
    "arith.addf": operations.add, "arith.subf": operations.subtract, "arith.mulf": operations.multiply, "arith.divf": operations.divide,
    "arith.negf": operations.negate, "arith.maximumf": operations.maximum, "arith.minimumf": operations.minimum,
    "math.absf": operations.absolute,
    "math.powf": lambda left, right: real.apply("pow", left, right), "math.sqrt": operations.function("sqrt"),
    "math.exp": operations.function("exp"),
    "math.log": operations.function("log"), "math.log2": operations.function("log2"), "math.cos": operations.function("cos"),
    "math.sin": operations.function("sin"), "math.tan": operations.function("tan"), "math.tanh": operations.function("tanh"),
    "math.roundeven": operations.make_rounding("round"), "math.trunc": operations.make_rounding("trunc"),
    "arith.fptosi": operations.make_rounding("trunc"),
}
for _name, _of_floats in _OF_FLOATS.items():
    _rule(_name)(_float(_of_floats))


@_rule("arith.divsi", "arith.remsi")
def _truncate(op: Any, known: Known) -> Values | None:
    """Round toward zero: floor division where both are known to be non-negative."""
    left, right = (known.values(operand) for operand in op.operands)
    if left is None or right is None:
        return None
    if left[0].is_at_least(0) and right[0].is_at_least(1):
        return (arithmetic.floordiv(left[0], right[0]),) if op.name == "arith.divsi" else (arithmetic.remainder(left[0], right[0]),)
    exact = arithmetic.divide_exactly(left[0], right[0])
    return None if exact is None else (exact if op.name == "arith.divsi" else ex.ZERO,)


@_rule("arith.constant", "shape.const_shape", "shape.const_size", "stablehlo.constant", "index.constant")
def _constant(op: Any, known: Known) -> Values | None:
    attribute = op.attributes["shape" if op.name == "shape.const_shape" else "value"]
    if isinstance(attribute, ir.IntegerAttr | ir.FloatAttr | ir.BoolAttr):
        return _read_number(attribute.value) if str(attribute.type) == "f64" else _whole([attribute.value])
    if isinstance(attribute, ir.DenseElementsAttr) and len(attribute) <= _LARGEST and "complex" not in str(attribute.type):
        return _whole([attribute.get_splat_value().value] * len(attribute) if attribute.is_splat else list(attribute))
    return None


_LARGEST = 16  # elements; a longer constant is no shape


def _read_number(value: Any) -> Values | None:
    """Return a float64 scalar, or whole numbers."""
    return (real.number(value),) if isinstance(value, float) and not value.is_integer() else _whole([value])


def _whole(numbers: list[Any]) -> Values | None:
    """Return numbers as whole ones if they are. -0.0 is not: an int would lose its sign."""
    if all(number == number and abs(number) < 1 << 62 and int(number) == number and str(number) != "-0.0" for number in numbers):
        return tuple(ex.number(int(number)) for number in numbers)
    return None


@_rule("arith.index_cast", "arith.index_castui", "arith.extsi", "arith.extui", "arith.trunci", "arith.sitofp",
       "tensor.cast", "shape.to_extent_tensor", "shape.from_extent_tensor", "shape.index_to_size", "shape.size_to_index",
       "stablehlo.reshape", "tensor.expand_shape", "tensor.collapse_shape", "shape.value_as_shape")  # fmt: skip
def _same(op: Any, known: Known) -> Values | None:
    return known.numbers(op.operands[0])


@_rule("stablehlo.convert")
def _convert(op: Any, known: Known) -> Values | None:
    return known.numbers(op.operands[0]) if known.is_float(op.results[0]) else known.values(op.operands[0])


@_rule("stablehlo.divide")
def _divide(op: Any, known: Known) -> Values | None:
    left, right = (known.values(operand) for operand in op.operands)
    if left is None or right is None or len(left) != 1 or len(right) != 1:
        return None
    exact = arithmetic.divide_exactly(left[0], right[0])
    if exact is not None:
        return (exact,)
    if known.is_float(op.results[0]):
        return (real.apply("truediv", left[0], right[0]),) if right[0].is_at_least(1) else None
    is_floor = left[0].is_at_least(0) and right[0].is_at_least(1)
    return (arithmetic.floordiv(left[0], right[0]),) if is_floor else None


@_rule("stablehlo.ceil", "math.ceil")
def _ceil(op: Any, known: Known) -> Values | None:
    return _round("ceil", op, known)


@_rule("stablehlo.floor", "math.floor")
def _floor(op: Any, known: Known) -> Values | None:
    return _round("floor", op, known)


def _round(way: str, op: Any, known: Known) -> Values | None:
    """Convert to an int. Of floats of other types only a quotient of sizes is converted, which is taken to be exact."""
    values = known.numbers(op.operands[0])
    if values is None or len(values) != 1 or (not _is_float64(op.operands[0]) and isinstance(values[0], Real)
                                              and real.quotient(values[0]) is None):
        return None
    return (operations.make_rounding(way)(values[0]),)


_FLOAT_PREDICATES = {1: "eq", 2: "gt", 3: "ge", 4: "lt", 5: "le", 6: "ne", 8: "eq", 9: "gt", 10: "ge", 11: "lt", 12: "le", 13: "ne"}


@_rule("arith.cmpf")
def _compare_floats(op: Any, known: Known) -> Values | None:
    predicate = _FLOAT_PREDICATES.get(op.attributes["predicate"].value)
    return None if predicate is None else _float(operations.compare(predicate))(op, known)


@_rule("arith.cmpi")
def _compare(op: Any, known: Known) -> Values | None:
    left, right = (known.values(operand) for operand in op.operands)
    if left is None or right is None:
        return None
    predicate = ("eq", "ne", "lt", "le", "gt", "ge", "lt", "le", "gt", "ge")[op.attributes["predicate"].value]
    return (arithmetic.compare(predicate, left[0], right[0]),)


@_rule("arith.select")
def _select(op: Any, known: Known) -> Values | None:
    parts = [known.numbers(operand) for operand in op.operands]
    if None in parts or (known.is_float(op.results[0]) and not _is_float64(op.results[0])):
        return None
    return (operations.select(*(part[0] for part in parts)),)  # type: ignore[index]


def _bits(op: str, of_bools: Callable[[Expression, Expression], Expression]) -> Rule:
    """Compute bits of ints, and of bools, which are 0 and 1."""
    of_ints = operations.bits(op)

    def rule(operation: Any, known: Known) -> Values | None:
        operands = _ints(operation, known)
        compute = of_bools if known.is_bool(operation.results[0]) else of_ints
        return None if operands is None else (compute(operands[0][0], operands[1][0]),)

    return rule


_rule("arith.andi")(_bits("and", lambda left, right: left * right))
_rule("arith.ori")(_bits("or", lambda left, right: left + right - left * right))
_rule("arith.xori")(_bits("xor", lambda left, right: left + right - ex.number(2) * left * right))
_rule("arith.shli")(_binary(operations.shift_left))
_rule("arith.shrsi")(_binary(operations.shift_right))


@_rule("tensor.dim", "shape.dim")
def _dim(op: Any, known: Known) -> Values | None:
    position = known.values(op.operands[1])
    return None if position is None or position[0].constant is None else (known.dims(op.operands[0])[position[0].constant],)


@_rule("stablehlo.get_dimension_size")
def _get_dimension_size(op: Any, known: Known) -> Values | None:
    return (known.dims(op.operands[0])[op.attributes["dimension"].value],)


@_rule("shape.shape_of")
def _read_shape(op: Any, known: Known) -> Values | None:
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
    """Return the common shape of a broadcast, aligned at the right.

    Dims that may differ are equal by the strict rule: a size that is not the int 1 does not broadcast.
    """
    width = max(len(left), len(right))
    left, right = (ex.ONE,) * (width - len(left)) + left, (ex.ONE,) * (width - len(right)) + right
    return tuple(b if a == ex.ONE or (b.constant not in (None, 1)) else a for a, b in zip(left, right, strict=True))


@_rule("tensor.from_elements", "shape.from_extents", "stablehlo.concatenate")
def _from_elements(op: Any, known: Known) -> Values | None:
    parts = [known.numbers(operand) for operand in op.operands]
    return None if None in parts else tuple(value for part in parts for value in part)  # type: ignore[union-attr]


@_rule("tensor.extract")
def _extract(op: Any, known: Known) -> Values | None:
    values = known.numbers(op.operands[0])
    indices = [known.values(operand) for operand in list(op.operands)[1:]]
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
