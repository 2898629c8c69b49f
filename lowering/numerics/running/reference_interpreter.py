"""StableHLO's reference interpreter, a consumer that shares no code with XLA: StableHLO's own passes refine the program, C++ evaluates it.

It is in torch_mlir's build and needs no installation. It computes one element after the other, about a million products a second.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch

from lowering import types
from lowering.errors import Problem, Refused, StageFailed, Unsupported
from lowering.ir import composites, expansion, mlir, products
from lowering.numerics.running.held import Held

Shaped = tuple[torch.dtype, tuple[int, ...]]

PLACE = "StableHLO's reference interpreter"
_REFINE = "stablehlo-refine-shapes,func.func(stablehlo-check-shape-assertions,stablehlo-canonicalize-dynamism)"
_CLEAN = (
    "builtin.module(func.func(stablehlo-canonicalize-dynamism,stablehlo-legalize-deprecated-ops{fail-on-unused=false}),canonicalize,cse)"
)

# Ops at which it ends the process.
_LACKING = frozenset(f"stablehlo.{name}" for name in (
    "batch_norm_grad", "batch_norm_inference", "batch_norm_training", "cholesky", "custom_call", "rng", "rng_bit_generator",
))  # fmt: skip

# Element types that its Python binding cannot give back, and the integers that hold the same bits.
_BITS = {"bf16": "i16", **{row.hlo: "i8" for row in types.DTYPES.values() if row.name.startswith("float8")}}


class ReferenceInterpreter:
    """StableHLO of torch_mlir's build (entry `@main`), interpreted at the shapes of the arguments.

    limit: the most products of elements that a run may compute in dots and convolutions (None: any number).
    """

    def __init__(self, module: Any, limit: int | None = None) -> None:
        self._module, self._limit = module, limit
        self._static: dict[Any, Any] = {}
        self._held = Held()

    def hold(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Convert weights to MLIR's attributes, for every later run."""
        self._held.hold(weights.values(), self._to_attribute)

    def run(self, arguments: Sequence[torch.Tensor], values: Mapping[int, int] = MappingProxyType({})) -> tuple[torch.Tensor, ...]:
        """Compute the results on `arguments`. values: of 0-d arguments that sizes depend on, by position.

        Raises Refused with the program's own words where an assertion fails, Unsupported where the interpreter takes no such op or dtype.
        """
        from torch_mlir._mlir_libs import _stablehlo

        key = tuple((tensor.dtype, tuple(tensor.shape)) for tensor in arguments), tuple(sorted(values.items()))
        if key not in self._static:
            self._static = {key: self._refine(key[0], values)}
        module, dtypes = self._static[key]
        with module.context, mlir.collect_diagnostics(module.context, PLACE):
            given = [self._held.take(tensor, self._to_attribute) for tensor in arguments]
            computed = _stablehlo.eval_module(module, given)
        return tuple(_to_tensor(value, dtype) for value, dtype in zip(computed, dtypes, strict=True))

    def _refine(self, shapes: Sequence[Shaped], values: Mapping[int, int]) -> tuple[Any, list[torch.dtype]]:
        """Return the module with every dim static and nothing that the interpreter lacks, and the dtypes of its results."""
        module = refine(self._module, shapes, values)
        main = mlir.find_entry(module)
        returned = list(list(main.regions[0].blocks[0].operations)[-1].operands)
        elements = [_read_element(value) for value in returned]
        if any(_read_element(value).startswith("complex") for value in (*main.regions[0].blocks[0].arguments, *returned)):
            raise Unsupported(Problem(PLACE, "its Python binding takes no complex tensors"))
        if lacking := sorted({op.name for op in mlir.walk_operations(module) if op.name in _LACKING}):
            raise Unsupported(Problem(PLACE, f"has no code for {', '.join(lacking)}"))
        if self._limit is not None and (count := products.count(module)) > self._limit:
            cause = f"would compute {count:,} products of elements, more than the limit of {self._limit:,}"
            raise Unsupported(Problem(PLACE, cause, "raise stages.verify.interpreted_products: a million takes about a second"))
        _return_bits(main)
        by_word = {row.hlo: row.torch for row in types.DTYPES.values()}
        return module, [by_word[element] for element in elements]

    def _to_attribute(self, tensor: torch.Tensor) -> Any:
        from torch_mlir import ir

        element = types.find_row(tensor.dtype).hlo
        value = tensor.detach().cpu().contiguous().resolve_conj().resolve_neg()
        if element in _BITS:
            value = value.view(torch.int16 if _BITS[element] == "i16" else torch.int8)
        with self._module.context, ir.Location.unknown():
            return ir.DenseElementsAttr.get(value.numpy(), type=ir.Type.parse(element), shape=list(tensor.shape))


def refine(module: Any, shapes: Sequence[Shaped], values: Mapping[int, int] = MappingProxyType({})) -> Any:
    """Make every dim of a copy of `module` static, for arguments of these dtypes and shapes, by StableHLO's own passes.

    Raises Refused with the program's own words where an assertion fails, StageFailed where the passes fail, Unsupported where a dim stays
    dynamic: they compute sizes from integers alone.
    """
    copy = mlir.copy(module)
    composites.inline(copy)
    messages = [re.escape(op.attributes["error_message"].value) for op in mlir.walk_operations(copy) if "error_message" in op.attributes]
    assertions = re.compile("|".join(re.sub(r"\\\{\d+\\\}", r"-?\\d+", message) for message in messages) or r"(?!)")
    mlir.fix_arguments(copy, values)
    taken = ",".join(f"tensor<{''.join(f'{size}x' for size in shape)}{types.find_row(dtype).hlo}>" for dtype, shape in shapes)
    try:
        mlir.run(copy, f"builtin.module(stablehlo-refine-arguments{{types={taken}}},{_REFINE})", PLACE)
    except StageFailed as error:
        causes = [problem.cause.rpartition(" at loc(")[0] for problem in error.problems]
        refused = [cause for cause in causes if assertions.fullmatch(cause)]
        raise (Refused if refused else StageFailed)([Problem(PLACE, cause) for cause in refused or causes], error.log) from None
    expansion.expand(copy)
    mlir.run(copy, _CLEAN, PLACE)
    open_ = [op for op in mlir.walk_operations(copy) if any("?" in str(value.type) for value in op.results)]
    if open_:
        raise Unsupported(Problem(PLACE, f"its shape refinement leaves {len(open_)} ops with dynamic dims, the first is {open_[0].name}",
                                  "it computes sizes from integers alone"))
    return copy


def _read_element(value: Any) -> str:
    from torch_mlir import ir

    return str(ir.RankedTensorType(value.type).element_type)


def _return_bits(main: Any) -> None:
    """Let @main return the bits of results whose element type the binding cannot give back."""
    from torch_mlir import ir

    returned = list(main.regions[0].blocks[0].operations)[-1].operation
    with main.context, ir.Location.unknown():
        for position, value in enumerate(list(returned.operands)):
            type_ = ir.RankedTensorType(value.type)
            if str(type_.element_type) in _BITS:
                bits = ir.RankedTensorType.get(list(type_.shape), ir.Type.parse(_BITS[str(type_.element_type)]))
                with ir.InsertionPoint(returned):
                    returned.operands[position] = ir.Operation.create("stablehlo.bitcast_convert", results=[bits], operands=[value]).result
        inputs = [argument.type for argument in main.regions[0].blocks[0].arguments]
        main.attributes["function_type"] = ir.TypeAttr.get(ir.FunctionType.get(inputs, [value.type for value in returned.operands]))


def _to_tensor(value: Any, dtype: torch.dtype) -> torch.Tensor:
    import numpy as np

    array = np.array(value)
    found = torch.from_numpy(array.astype(np.uint64) if array.dtype.char == "Q" else array)  # C's long long, which torch does not know
    return found if found.dtype is dtype else found.view(dtype)
