"""Compilation of a static program by XLA: the form that XLA is given, the options, and the key of the executable."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from lowering.custom import bridge
from lowering.errors import Problem, Unsupported
from lowering.ir import mlir
from lowering.numerics.running import orientation
from lowering.numerics.running.shape_refinement import context
from lowering.store import executables

# What a compiler may do for speed and a comparison must not see: max(NaN, 1) = 1 (YNN does so in a maximum fused with a reduction, so it
# gets products alone), and bf16 kept in f32 between ops.
_STRICT = {"xla_cpu_enable_fast_min_max": False, "xla_allow_excess_precision": False,
           "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_INDIVIDUAL_DOT"}

Effort = Literal["quick", "unoptimized", "full"]

# XLA's own passes and fusions, in machine code that LLVM does not optimize: for programs that run once, half of the time.
_UNOPTIMIZED = {"xla_backend_optimization_level": 0, "xla_cpu_parallel_codegen_split_count": 1}
# What takes a quarter of the time of a compilation for the CPU and makes the code slow: for a few small runs.
_QUICK = {**_UNOPTIMIZED, "xla_cpu_use_fusion_emitters": False}
# With these, XLA's library of kernels does the reductions too, in half of the time; they lose NaN as above.
_REDUCED = {**_QUICK, "xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_REDUCE"}
# Only programs of the usual element types and ops are compiled with less than full effort: products of other types take XLA's own loops.
_PLAIN_TYPES = frozenset({"f32", "f64", "i1", "i32", "i64", "ui32", "ui64"})
_NARROW_TYPES = frozenset({"i8", "i16", "ui8", "ui16"})  # usual outside of products, as for the windows of a pooling
_PRODUCTS = frozenset(f"stablehlo.{name}" for name in ("dot", "dot_general", "convolution"))
_NOT_PLAIN = frozenset(f"stablehlo.{name}" for name in (
    "custom_call", "fft", "rng", "rng_bit_generator", "cholesky", "triangular_solve", "composite"))


def rank(effort: Effort, may_lose_nan: bool) -> int:
    """Return a number that is larger the more a compilation is like that of XLA's default options."""
    return 0 if may_lose_nan else 1 + get_args(Effort).index(effort)


@dataclass(frozen=True)
class Plan:
    """How a static module is compiled: the program that XLA is given, its options, and the key of the executable.

    is_full: whether XLA's default effort is made. has_handlers: whether ops outside of XLA may be called.
    """

    program: bytes
    options: Mapping[str, Any]
    is_full: bool
    has_handlers: bool
    key: str


def plan(static: bytes, platform: str, version: str, options: Mapping[str, Any], is_strict: bool, effort: Effort,
         may_lose_nan: bool) -> Plan:
    """Return how a static module is compiled. version: the compiler's. See `Xla` for the rest."""
    if platform != "cpu" or (effort != "full" and not _is_plain(static)):
        effort = "full"
    given = {**options, **(_STRICT if is_strict else {}), **_choose_options(effort, may_lose_nan)}
    precise = _prepare_products(static, platform == "cpu" and effort != "quick")
    return Plan(precise, given, effort == "full", bridge.may_call(static), executables.compute_key(precise, version, given))


def _choose_options(effort: Effort, may_lose_nan: bool) -> Mapping[str, Any]:
    if effort == "quick":
        return _REDUCED if may_lose_nan else _QUICK
    return _UNOPTIMIZED if effort == "unoptimized" else {}


def _is_plain(static: bytes) -> bool:
    """Return whether a static module holds nothing but the most usual ops and element types."""
    from jaxlib.mlir import ir

    with context(), ir.Location.unknown():
        module = ir.Module.parse(static)
        operations = list(mlir.walk_operations(module))
        multiplied = {str(operand.type) for operation in operations if operation.name in _PRODUCTS for operand in operation.operands}
        found = {str(result.type) for operation in operations for result in operation.results}
        return (_list_elements(multiplied) <= _PLAIN_TYPES and _list_elements(found) <= _PLAIN_TYPES | _NARROW_TYPES
                and all(operation.name not in _NOT_PLAIN for operation in operations))


def _list_elements(words: Iterable[str]) -> set[str]:
    """Return the element types of types of tensors, in MLIR's words."""
    return {word.removesuffix(">").rpartition("<")[2].rpartition("x")[2] for word in words}


def _prepare_products(static: bytes, is_oriented: bool) -> bytes:
    """Set every dot and convolution of a static module to full precision: a GPU's default rounds f32 operands to TF32.

    is_oriented: whether to exchange operands of dots too (see `orientation`).
    """
    from jaxlib.mlir import ir

    with context(), ir.Location.unknown():
        module = ir.Module.parse(static)
        if foreign := bridge.list_foreign(module):
            cause = "is neither the lowering's own nor a PyTorch op, so it is not run"
            raise Unsupported([Problem(f"custom call '{target}'", cause) for target in foreign])
        if is_oriented:
            orientation.orient(module)
        highest = ir.Attribute.parse("[#stablehlo<precision HIGHEST>, #stablehlo<precision HIGHEST>]")

        for operation in mlir.walk_operations(module):
            if operation.name in _PRODUCTS:
                operation.attributes["precision_config"] = highest
        return mlir.to_bytecode(module)
