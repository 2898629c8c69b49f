"""Arithmetic and functions of complex tensors, which torch-mlir lowers for real tensors only."""

from __future__ import annotations

from collections.abc import Sequence

from torch_mlir import ir

from lowering.torch_to_stablehlo.rewriting import Call, Rule, rule

_ARITHMETIC = {
    "add": "chlo.broadcast_add", "sub": "chlo.broadcast_subtract", "mul": "chlo.broadcast_multiply", "div": "chlo.broadcast_divide",
}  # fmt: skip
_FUNCTIONS = {
    "exp": "exponential", "expm1": "exponential_minus_one", "log": "log", "log1p": "log_plus_one", "sqrt": "sqrt", "rsqrt": "rsqrt",
    "sin": "sine", "cos": "cosine", "tanh": "tanh", "neg": "negate", "abs": "abs",
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
        return [call.make(f"stablehlo.{name}", [given], call.result())] if _is_complex(given.type) else None

    return apply


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
