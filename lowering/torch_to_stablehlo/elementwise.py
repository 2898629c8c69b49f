"""Functions of one or two tensors that are an op of CHLO or StableHLO, but have no lowering in torch-mlir."""

from __future__ import annotations

from collections.abc import Sequence

from torch_mlir import ir

from lowering.torch_to_stablehlo.rewriting import Call, Rule, rule, tensor_type

_FUNCTIONS = {
    "prims.lgamma": "chlo.lgamma",
    "prims.digamma": "chlo.digamma",
    "prims.erfc": "chlo.erfc",
    "prims.erf_inv": "chlo.erf_inv",
    "aten.erfinv": "chlo.erf_inv",
    "prims.bessel_i1e": "chlo.bessel_i1e",
    "prims.zeta": "chlo.zeta",
    "prims.nextafter": "chlo.next_after",
    "prims.fmod": "stablehlo.remainder",
    "prims.pow": "stablehlo.power",
    "aten.complex": "stablehlo.complex",
    "aten.real": "stablehlo.real",
    "aten.imag": "stablehlo.imag",
}


def _make_function_rule(name: str) -> Rule:
    def apply(call: Call) -> Sequence[ir.Value] | None:
        if name in ("stablehlo.real", "stablehlo.imag") and "complex" not in str(call.op.operands[0].type):
            return None
        operands = [call.tensor(position) for position in range(len(call.op.operands))]
        return [call.make(name, operands, call.result())] if _is_elementwise(operands) else None

    return apply


def _is_elementwise(operands: Sequence[ir.Value]) -> bool:
    """Return whether the operands have one shape.

    A dim of unknown size does not broadcast, so it equals the known size of the other operand.
    """
    shapes = [list(ir.RankedTensorType(operand.type).shape) for operand in operands]
    unknown = ir.ShapedType.get_dynamic_size()
    if any(len(shape) != len(shapes[0]) for shape in shapes):
        return False
    pairs = (pair for shape in shapes for pair in zip(shape, shapes[0], strict=True))
    return all(a == b or (unknown in (a, b) and 1 not in (a, b)) for a, b in pairs)


for _torch, _name in _FUNCTIONS.items():
    rule(_torch)(_make_function_rule(_name))


@rule("aten.polygamma")
def _polygamma(call: Call) -> Sequence[ir.Value]:
    """Lower a derivative of the digamma function, of a constant order of at least 0."""
    element = str(ir.RankedTensorType(call.result()).element_type)
    given = call.convert(call.tensor(1), element)
    if call.constant(0) == 0:
        return [call.make("chlo.digamma", [given], call.result())]
    order = call.make("chlo.constant_like", [given], call.result(), value=f"{float(call.constant(0))} : {element}")
    return [call.make("chlo.polygamma", [order, given], call.result())]


@rule("aten.view.dtype", "aten.view_copy.dtype")
def _bitcast(call: Call) -> Sequence[ir.Value] | None:
    """Lower a view of the same bits as another type of the same width."""
    given = call.tensor(0)
    widths = [_width(type_) for type_ in (given.type, call.result())]
    if widths[0] is None or widths[0] != widths[1]:
        return None
    return [call.make("stablehlo.bitcast_convert", [given], call.result())]


def _width(type_: ir.Type) -> int | None:
    element = ir.RankedTensorType(type_).element_type
    is_number = isinstance(element, ir.IntegerType | ir.FloatType)
    return element.width if is_number and str(element) != "i1" else None


@rule("aten.view_as_real")
def _view_as_real(call: Call) -> Sequence[ir.Value]:
    """Lower a complex tensor to a real one (..., 2), with the real and the imaginary part side by side."""
    given = call.tensor(0)
    type_ = ir.RankedTensorType(call.result())
    shape, element = list(type_.shape), str(type_.element_type)
    halves = []
    for name in ("real", "imag"):
        part = call.make(f"stablehlo.{name}", [given], tensor_type(shape[:-1], element))
        sizes = call.extents([*call.dims(part), call.index(1)])
        halves.append(call.make("stablehlo.dynamic_reshape", [part, sizes], tensor_type([*shape[:-1], 1], element)))
    return [call.make("stablehlo.concatenate", halves, call.result(), dimension=f"{len(shape) - 1} : i64")]

