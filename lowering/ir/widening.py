"""StableHLO in float64: the same program with every float of fewer bits widened, by which results that differ by rounding are judged."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lowering.errors import Problem, Unsupported
from lowering.ir import mlir

# Ops whose meaning depends on the bits of a float, or on code that takes certain types.
_FIXED = ("stablehlo.bitcast_convert", "stablehlo.custom_call", "stablehlo.reduce_precision", "stablehlo.rng",
          "stablehlo.rng_bit_generator", "stablehlo.uniform_quantize", "stablehlo.uniform_dequantize")  # fmt: skip
_NARROW = ("f32", "f16", "bf16")  # floats of 8 bits were quantized, and keep their values


def widen(module: Any) -> Any:
    """Return a copy of a program in StableHLO whose floats, and parts of complex numbers, are float64. Constants keep their values.

    Raises Unsupported with every op that has no such form.
    """
    module = mlir.copy(module)
    ir = mlir.get_ir(module.context)
    operations = list(mlir.walk_operations(module))
    with module.context, ir.Location.unknown():
        if problems := list(_find_fixed(operations, ir)):
            raise Unsupported(problems)
        for operation in operations:
            for region in operation.regions:
                for block in region.blocks:
                    for argument in block.arguments:
                        argument.set_type(_widen_type(argument.type, ir))
            if "function_type" in operation.attributes:
                operation.attributes["function_type"] = ir.TypeAttr.get(_widen_function(operation.attributes["function_type"].value, ir))
            elif operation.name == "stablehlo.constant":
                _convert(operation, ir)
            else:
                for result in operation.results:
                    result.set_type(_widen_type(result.type, ir))
    mlir.verify(module, "the source in float64")
    return module


def _find_fixed(operations: list[Any], ir: Any) -> Iterator[Problem]:
    for operation in operations:
        kinds = [value.type for value in (*operation.operands, *operation.results)]
        if operation.name in _FIXED and any(_widen_type(kind, ir) != kind for kind in kinds):
            yield Problem(operation.name, "has no float64 form")
        elif "algorithm" in operation.attributes:
            yield Problem(operation.name, "computes by an algorithm of narrower floats")


def _convert(constant: Any, ir: Any) -> None:
    """Let the users of a constant take it in float64."""
    value = constant.results[0]
    kind = _widen_type(value.type, ir)
    if kind == value.type:
        return
    with ir.InsertionPoint.after(constant):
        wide = ir.Operation.create("stablehlo.convert", results=[kind], operands=[value])
    value.replace_all_uses_except(wide.result, [wide])


def _widen_function(kind: Any, ir: Any) -> Any:
    return ir.FunctionType.get([_widen_type(each, ir) for each in kind.inputs], [_widen_type(each, ir) for each in kind.results])


def _widen_type(kind: Any, ir: Any) -> Any:
    """Return the type of a tensor in float64, and other types as they are."""
    if not isinstance(kind, ir.RankedTensorType):
        return kind
    element = _widen_element(kind.element_type, ir)
    return ir.RankedTensorType.get(kind.shape, element, kind.encoding) if element != kind.element_type else kind


def _widen_element(element: Any, ir: Any) -> Any:
    if str(element) in _NARROW:
        return ir.F64Type.get()
    return ir.ComplexType.get(ir.F64Type.get()) if isinstance(element, ir.ComplexType) else element
