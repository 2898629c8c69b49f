"""A static program from a dynamic one: every dim is computed from sizes of the symbols, and the assertions have been checked."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lowering.errors import Problem, StageFailed
from lowering.ir import chlo, composites, mlir, portable, products, quantized_types
from lowering.level import Program
from lowering.numerics.running import runner, shape_refinement
from lowering.signature import Signature
from lowering.sizes import evaluation
from lowering.types import DTYPES

_REFINE = "builtin.module(stablehlo-refine-shapes,func.func(stablehlo-check-shape-assertions))"
_WHOLE = ("mhlo.composite", chlo.RAGGED_DOT_OF_MHLO)
_CLEAN = "builtin.module(func.func(stablehlo-canonicalize-dynamism),canonicalize,cse)"


@dataclass(frozen=True)
class StaticModule:
    """A static form of a program, as modules of jaxlib's build and as a portable artifact.

    cost: `ops` of the MHLO; `bytes` of the portable artifact; `products` of dots and convolutions; `seconds` of CPU time to make it.
    """

    sizes: Mapping[str, int]
    stablehlo: Any
    mhlo: Any
    artifact: bytes
    version: str
    cost: Mapping[str, float]


def make(program: Program, sizes: Mapping[str, int], target: str = "WEEK_4", entry: str = "main") -> StaticModule:
    """Make the static form of an MHLO program at `sizes` of all symbols of its signature.

    target, entry: the version and the entry function of its portable artifact.

    Raises Refused in the program's words where the sizes break an assertion, Unsupported where a size depends on data, StageFailed where
    something is dynamic or impure after all.
    """
    start = time.process_time()
    assert program.signature is not None
    shapes, values = find_shapes(program.signature, sizes)
    dynamic = quantized_types.expand(program.ir)
    static = mlir.parse(shape_refinement.refine(mlir.to_bytecode(dynamic), shapes, values), mlir.create_hlo_context())
    if any(op.name in _WHOLE for op in mlir.walk_operations(dynamic)):
        static = _refine_whole(dynamic, shapes, values)  # XLA has inlined them
    mlir.run(static, _CLEAN, "static program")
    mhlo = mlir.copy(static)
    mlir.run(mhlo, portable.TO_MHLO, "static program")
    chlo.from_calls(static)
    _check(mhlo, sizes)
    artifact, version = portable.serialize(mhlo, target, runner.list_names(program.signature), entry)
    ops = sum(mlir.count_ops(mhlo).values())
    cost = {"ops": ops, "bytes": len(artifact), "products": products.count(static), "seconds": round(time.process_time() - start, 4)}
    return StaticModule(dict(sizes), static, mhlo, artifact, version, cost)


def _refine_whole(module: Any, shapes: Sequence[Any], values: Mapping[int, int]) -> Any:
    """Return the static StableHLO of an MHLO module whose assertions hold, with the ops of `_WHOLE`, refined by StableHLO's own passes."""
    with mlir.create_hlo_context():
        static = shape_refinement.parse_whole(mlir.to_bytecode(module))
        calls = composites.to_own_calls(static)
        chlo.from_calls(static)  # these passes infer no type of a custom call
        shape_refinement.refine_arguments(static, shapes, values)
        mlir.run(static, _REFINE, "static program")
        mlir.run(static, _CLEAN, "static program")
        composites.from_own_calls(static, calls)
    return static


def find_shapes(signature: Signature, sizes: Mapping[str, int]) -> tuple[list[Any], dict[int, int]]:
    """Return dtype and shape of each argument, and the value of each that is an int, by position."""
    shapes = [(DTYPES[argument.dtype].torch, tuple(evaluation.evaluate(dim, sizes) for dim in argument.dims))
              for argument in signature.arguments]
    values = {position: sizes[argument.value] for position, argument in enumerate(signature.arguments) if argument.value is not None}
    return shapes, values


def _check(mhlo: Any, sizes: Mapping[str, int]) -> None:
    """Raise StageFailed unless the module holds func and mhlo alone, every type is static, and no assertion is left."""
    at = evaluation.text(sizes)
    problems = mlir.list_impurities(mhlo, ("func", "mhlo", "builtin"))
    for op in mlir.walk_operations(mhlo):
        if any("?" in str(value.type) for value in (*op.operands, *op.results)):
            problems.append(Problem(f"{op.name} at {op.location}", f"is dynamic at {at}"))
        elif op.name == "mhlo.custom_call" and op.attributes["call_target_name"].value == "shape_assertion":
            problems.append(Problem(f"shape_assertion at {op.location}", f"is not decided at {at}"))
    if problems:
        raise StageFailed(problems, mlir.text(mhlo))
