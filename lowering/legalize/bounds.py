"""Upper bounds of an entry function's dynamic dims, written into its argument types as MHLO's own extension."""

from __future__ import annotations

from typing import Any

from jaxlib.mlir import ir

from lowering.ir import mlir
from lowering.signature import Signature
from lowering.sizes import normal


def write(module: Any, signature: Signature) -> None:
    """Give each dynamic argument of `@main` with a known upper bound `#mhlo.type_extensions<bounds>`, in place."""
    atoms = normal.symbols(signature.symbols)
    function = mlir.find_entry(module)
    block = function.regions[0].blocks[0]
    with module.context:
        for argument, value in zip(signature.arguments, block.arguments, strict=True):
            highs = [None if isinstance(dim, int) else normal.size(dim, atoms).bounds()[1] for dim in argument.dims]
            if any(high is not None for high in highs):
                type_ = ir.RankedTensorType(value.type)
                bounds = ", ".join("?" if high is None else str(high) for high in highs)
                encoding = ir.Attribute.parse(f"#mhlo.type_extensions<bounds = [{bounds}]>")
                value.set_type(ir.RankedTensorType.get(type_.shape, type_.element_type, encoding, ir.Location.unknown()))
        terminator = list(block.operations)[-1]
        inputs, results = ([value.type for value in values] for values in (block.arguments, terminator.operands))
        function.attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get(inputs, results))
