"""Scalar and small-tensor ops outside StableHLO (arith, math, tensor) whose operands are not all sizes: StableHLO ops on 0-d tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from torch_mlir import ir

from lowering.legalize.rewriter import Pattern, Rewrite
from lowering.rules import Rules
from lowering.sizes import expression as ex

Build: TypeAlias = Callable[[Any, Rewrite], "Any | None"]

# the StableHLO op on 0-d tensors
_ELEMENTWISE = {
    "arith.addi": "add", "arith.addf": "add", "arith.subi": "subtract", "arith.subf": "subtract", "arith.muli": "multiply",
    "arith.mulf": "multiply", "arith.divf": "divide", "arith.divsi": "divide", "arith.maxsi": "maximum", "arith.minsi": "minimum",
    "arith.maximumf": "maximum", "arith.minimumf": "minimum", "arith.remsi": "remainder", "arith.remf": "remainder", "arith.negf": "negate",
    "arith.andi": "and", "arith.ori": "or", "arith.xori": "xor", "arith.select": "select", "arith.sitofp": "convert",
    "arith.uitofp": "convert", "arith.fptosi": "convert", "arith.extsi": "convert", "arith.extui": "convert", "arith.extf": "convert",
    "arith.truncf": "convert", "arith.trunci": "convert", "arith.index_cast": "convert", "math.ceil": "ceil", "math.floor": "floor",
    "math.sqrt": "sqrt", "math.powf": "power", "math.absf": "abs", "math.absi": "abs", "math.exp": "exponential", "math.log": "log",
    "math.roundeven": "round_nearest_even", "math.tanh": "tanh", "math.cos": "cosine", "math.sin": "sine", "math.tan": "tan",
    "arith.shli": "shift_left", "arith.shrsi": "shift_right_arithmetic",
}  # fmt: skip

_FLOAT_PREDICATES = {1: "EQ", 2: "GT", 3: "GE", 4: "LT", 5: "LE", 6: "NE", 8: "EQ", 9: "GT", 10: "GE", 11: "LT", 12: "LE", 13: "NE"}
_INTEGER_PREDICATES = ("EQ", "NE", "LT", "LE", "GT", "GE", "LT", "LE", "GT", "GE")

RULES: Rules[Pattern] = Rules("lowering.legalize.patterns.scalars")


def _rule(*names: str) -> Callable[[Build], Build]:
    """Register a function that builds the replacement of these ops. An op for which it returns None is refused."""

    def register(build: Build) -> Build:
        def pattern(op: Any, rewrite: Rewrite) -> None:
            with ir.InsertionPoint(op), op.location:
                built = build(op, rewrite)
            if built is None:
                rewrite.refuse(op)
            else:
                rewrite.replace(op.results[0], built)

        RULES.register(*names)(pattern)
        return build

    return register


@_rule("arith.constant")
def _constant(op: Any, rewrite: Rewrite) -> Any:
    if isinstance(op.results[0].type, ir.RankedTensorType):
        return ir.Operation.create("stablehlo.constant", results=[op.results[0].type], attributes={"value": op.attributes["value"]}).result
    text = str(op.attributes["value"]).partition(" : ")[0]
    return rewrite.emitter.constant(f"dense<{text}>", _tensor(op.results[0]))


@_rule("arith.cmpi", "arith.cmpf")
def _compare(op: Any, rewrite: Rewrite) -> Any:
    predicate = op.attributes["predicate"].value
    direction = _INTEGER_PREDICATES[predicate] if op.name == "arith.cmpi" else _FLOAT_PREDICATES[predicate]
    operands = [rewrite.data(operand) for operand in op.operands]
    return rewrite.emitter.op("stablehlo.compare", operands, "tensor<i1>",
                              comparison_direction=f"#stablehlo<comparison_direction {direction}>")


@_rule(*_ELEMENTWISE)
def _elementwise(op: Any, rewrite: Rewrite) -> Any:
    operands = [rewrite.data(operand) for operand in op.operands]
    return rewrite.emitter.op(f"stablehlo.{_ELEMENTWISE[op.name]}", operands, _tensor(op.results[0]))


@_rule("tensor.extract")
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


@_rule("tensor.from_elements")
def _from_elements(op: Any, rewrite: Rewrite) -> Any | None:
    emitter, type_ = rewrite.emitter, ir.RankedTensorType(op.results[0].type)
    element = str(type_.element_type).replace("index", "i64")
    if type_.rank == 0:
        return rewrite.data(op.operands[0])
    if type_.rank > 1:
        return None
    parts = [emitter.op("stablehlo.reshape", [rewrite.data(operand)], f"tensor<1x{element}>") for operand in op.operands]
    return parts[0] if len(parts) == 1 else emitter.op("stablehlo.concatenate", parts, f"tensor<{len(parts)}x{element}>",
                                                       dimension="0 : i64")


@_rule("tensor.expand_shape", "tensor.collapse_shape", "tensor.cast")
def _replace_reshape(op: Any, rewrite: Rewrite) -> Any | None:
    """Replace expand_shape, collapse_shape and cast by a reshape, or by their operand if nothing changes."""
    source = rewrite.data(op.operands[0])
    if op.name == "tensor.cast":
        rewrite.known.learn_dims(op.results[0], rewrite.known.dims(source))
        return source
    type_ = ir.RankedTensorType(op.results[0].type)
    if type_.has_static_shape:
        return rewrite.emitter.op("stablehlo.reshape", [source], str(type_))
    shape = rewrite.known.values(op.results[0]) or _compute_reshaped_dims(op, rewrite)
    if shape is None:
        return None
    return rewrite.emitter.op("stablehlo.dynamic_reshape", [source, rewrite.emitter.vector(shape)], str(type_))


def _compute_reshaped_dims(op: Any, rewrite: Rewrite) -> ex.Shape | None:
    """Return the dims of an expand_shape (its output sizes) or collapse_shape (products of each group)."""
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


def _tensor(value: Any) -> str:
    if isinstance(value.type, ir.RankedTensorType):
        return str(value.type)
    return f"tensor<{'i64' if isinstance(value.type, ir.IndexType) else value.type}>"
