"""Arithmetic and functions of complex tensors, which torch-mlir lowers for real tensors only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch_mlir import ir

from lowering.torch_to_stablehlo.rewriting import Call, Rule, rule, tensor_type
from lowering.torch_to_stablehlo.scattering import fill_body

_ARITHMETIC = {
    "add": "chlo.broadcast_add", "sub": "chlo.broadcast_subtract", "mul": "chlo.broadcast_multiply", "div": "chlo.broadcast_divide",
}  # fmt: skip
_FUNCTIONS = {
    "exp": "stablehlo.exponential", "expm1": "stablehlo.exponential_minus_one", "log": "stablehlo.log", "log1p": "stablehlo.log_plus_one",
    "sqrt": "stablehlo.sqrt", "rsqrt": "stablehlo.rsqrt", "sin": "stablehlo.sine", "cos": "stablehlo.cosine", "tanh": "stablehlo.tanh",
    "neg": "stablehlo.negate", "abs": "stablehlo.abs",
}  # fmt: skip


def _make_arithmetic_rule(name: str) -> Rule:
    def apply(call: Call) -> Sequence[ir.Value] | None:
        """Lower op(self, other), or a sum op(self, other, alpha) with alpha 1. Operands of lower rank are broadcast."""
        if not _is_complex(call.result()) or (len(call.op.operands) == 3 and call.constant(2) != 1):
            return None
        element = str(ir.RankedTensorType(call.result()).element_type)
        return [call.make(name, [_complex_operand(call, position, element) for position in (0, 1)], call.result())]

    return apply


def _complex_operand(call: Call, position: int, element: str) -> ir.Value:
    """Return an operand, a tensor or a real number, with complex elements."""
    if "tensor<" in str(call.op.operands[position].type):
        return call.convert(call.tensor(position), element)
    return make_real_number(call, float(call.constant(position)), element)


def make_real_number(call: Call, number: float, element: str) -> ir.Value:
    """Return a real number as a 0-d complex tensor. MLIR's Python bindings take no complex constants."""
    part = element.removeprefix("complex<").removesuffix(">")
    return call.make("stablehlo.complex", [call.number(number, part), call.number(0.0, part)], f"tensor<{element}>")


def _make_function_rule(name: str) -> Rule:
    def apply(call: Call) -> Sequence[ir.Value] | None:
        given = call.tensor(0)
        return [call.make(name, [given], call.result())] if _is_complex(given.type) else None

    return apply


def _make_inverse_rule(name: str) -> Rule:
    def apply(call: Call) -> Sequence[ir.Value] | None:
        """Lower the inverse of a trigonometric or hyperbolic function.

        CHLO's takes -0 for 0 on the branch cuts. So it is computed in the first quadrant, and reflected by the signs of both parts.
        """
        given = call.tensor(0)
        if not _is_complex(given.type):
            return None
        signs = [_Part(call, call.make(f"stablehlo.{part}", [given], _part_type(given.type))) for part in ("real", "imag")]
        first = call.make("stablehlo.complex", [sign.make_absolute() for sign in signs], given.type)
        found = call.make(f"chlo.{name}", [first], given.type)
        real, imaginary = (call.make(f"stablehlo.{part}", [found], signs[0].value.type) for part in ("real", "imag"))
        if name == "acos":
            real, imaginary = signs[0].reflect(real), signs[1].negate(imaginary)
        elif name == "acosh":
            imaginary = signs[1].negate(signs[0].reflect(imaginary))
        else:
            real, imaginary = signs[0].negate(real), signs[1].negate(imaginary)
        return [call.make("stablehlo.complex", [real, imaginary], given.type)]

    return apply


@dataclass(frozen=True)
class _Part:
    """The real or imaginary part of a complex tensor, whose sign bits decide how results of its absolute value are reflected."""

    call: Call
    value: ir.Value

    def make_absolute(self) -> ir.Value:
        return self.call.make("stablehlo.abs", [self.value], self.value.type)

    def negate(self, result: ir.Value) -> ir.Value:
        """Return `result`, negated where this part is negative."""
        return self._select(self.call.make("stablehlo.negate", [result], result.type), result)

    def reflect(self, result: ir.Value) -> ir.Value:
        """Return `result`, or pi minus it where this part is negative."""
        type_ = ir.RankedTensorType(result.type)
        pi = self.call.make("chlo.constant_like", [result], result.type, value=ir.FloatAttr.get(type_.element_type, math.pi))
        return self._select(self.call.make("stablehlo.subtract", [pi, result], result.type), result)

    def _select(self, if_negative: ir.Value, otherwise: ir.Value) -> ir.Value:
        type_ = ir.RankedTensorType(self.value.type)
        shape, integer = list(type_.shape), f"i{type_.element_type.width}"
        bits = self.call.make("stablehlo.bitcast_convert", [self.value], tensor_type(shape, integer))
        zero = self.call.make("chlo.constant_like", [bits], bits.type, value=f"0 : {integer}")
        is_negative = self.call.make("stablehlo.compare", [bits, zero], tensor_type(shape, "i1"),
                                     comparison_direction="#stablehlo<comparison_direction LT>")  # fmt: skip
        return self.call.make("stablehlo.select", [is_negative, if_negative, otherwise], otherwise.type)


def _part_type(type_: ir.Type) -> ir.Type:
    """Return the type of the parts of a complex tensor."""
    ranked = ir.RankedTensorType(type_)
    return tensor_type(list(ranked.shape), str(ranked.element_type).removeprefix("complex<").removesuffix(">"))


@rule("aten.prod", "aten.prod.dim_int")
def _product(call: Call) -> Sequence[ir.Value] | None:
    """Lower a product of all elements of a complex tensor, or of those along a dim."""
    if not _is_complex(call.result()):
        return None
    element = str(ir.RankedTensorType(call.result()).element_type)
    given = call.convert(call.tensor(0), element)
    shape, of_all = list(ir.RankedTensorType(given.type).shape), len(call.op.operands) == 2
    dims = list(range(len(shape))) if of_all else [call.constant(1) % len(shape)] if shape else []
    reduced = ir.Operation.create(
        "stablehlo.reduce", results=[tensor_type([size for dim, size in enumerate(shape) if dim not in dims], element)], regions=1,
        operands=[given, make_real_number(call, 1.0, element)],
        attributes={"dimensions": ir.Attribute.parse(f"array<i64: {', '.join(map(str, dims))}>" if dims else "array<i64>")},
    )  # fmt: skip
    fill_body(call, reduced, "multiply")
    if of_all or not dims or not call.constant(2):
        return [reduced.result]
    sizes = call.extents([call.index(1) if dim in dims else call.dim(given, dim) for dim in range(len(shape))])
    return [call.make("stablehlo.dynamic_reshape", [reduced.result, sizes], call.result())]


@rule("aten.reciprocal")
def _reciprocal(call: Call) -> Sequence[ir.Value] | None:
    """Lower the reciprocal of a complex tensor."""
    given = call.tensor(0)
    if not _is_complex(given.type):
        return None
    one = make_real_number(call, 1.0, str(ir.RankedTensorType(given.type).element_type))
    return [call.make("chlo.broadcast_divide", [one, given], given.type)]


def _is_complex(type_: ir.Type) -> bool:
    return "complex" in str(ir.RankedTensorType(type_).element_type)


for _torch, _name in _ARITHMETIC.items():
    for _form in ("Tensor", "Scalar"):
        rule(f"aten.{_torch}.{_form}")(_make_arithmetic_rule(_name))
for _torch, _name in _FUNCTIONS.items():
    rule(f"aten.{_torch}")(_make_function_rule(_name))
for _name in ("acos", "acosh", "asin", "asinh", "atan", "atanh"):
    rule(f"aten.{_name}")(_make_inverse_rule(_name))
