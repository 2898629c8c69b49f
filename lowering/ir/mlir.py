"""Interface to both MLIR builds: torch_mlir's (torch dialect, StableHLO) and jaxlib's (StableHLO, MHLO). No other module imports them."""

from __future__ import annotations

import io
import os
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from lowering.errors import Problem, ShapelineError, StageFailed
from lowering.ir.annotations import annotate

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")  # read when jaxlib is loaded: otherwise XLA reports its devices on stderr

ENTRY = "main"  # name of the entry function
ELIDE = 64  # constants with more elements are abbreviated

# Dialects whose Python module torch_mlir does not ship. MLIR searches for it at each op until it finds one. Empty modules make a walk over
# StableHLO several times faster.
_WITHOUT_PYTHON = ("stablehlo", "chlo", "torch_c")


def create_torch_context() -> Any:
    """Create a context of torch_mlir's build with the torch dialect, StableHLO and CHLO."""
    from torch_mlir import ir, passmanager
    from torch_mlir._mlir_libs import _stablehlo
    from torch_mlir.dialects import torch as torch_dialect

    for dialect in _WITHOUT_PYTHON:
        sys.modules.setdefault(f"torch_mlir.dialects.{dialect}", ModuleType(dialect))
    context = ir.Context()
    torch_dialect.register_dialect(context)
    _stablehlo.register_dialect(context, True)
    _stablehlo.register_stablehlo_passes()
    context.emit_error_diagnostics = True  # otherwise some failed passes abort the process instead of raising
    with context:  # a pass that makes ops of CHLO and torch_c loads them; Python has no registration for them
        empty = ir.Module.parse("func.func @main() { return }")
        passmanager.PassManager.parse("builtin.module(func.func(convert-torch-to-stablehlo))").run(empty.operation)
    return context


def create_hlo_context() -> Any:
    """Create a context of jaxlib's build with StableHLO, CHLO and MHLO."""
    from jaxlib.mlir import ir, passmanager
    from jaxlib.mlir._mlir_libs import _jax_mlir_ext
    from jaxlib.mlir.dialects import chlo, mhlo, stablehlo

    context = ir.Context()
    upstream = ir.DialectRegistry()
    _jax_mlir_ext.register_dialects(upstream)  # func and the other upstream dialects: this build registers none by default
    context.append_dialect_registry(upstream)
    context.load_all_available_dialects()
    mhlo.register_mhlo_dialect(context)
    mhlo.register_mhlo_passes()
    stablehlo.register_dialect(context)
    stablehlo.register_stablehlo_passes()
    chlo.register_dialect(context)
    with context:  # a pass loads the dialect of quantized types, for which Python has no registration
        passmanager.PassManager.parse("builtin.module(vhlo-legalize-to-stablehlo)").run(ir.Module.parse("").operation)
    return context


def parse(text: str | bytes, context: Any) -> Any:
    """Parse a module in `context`, which determines the build."""
    return get_ir(context).Module.parse(text, context)


def to_bytecode(module: Any) -> bytes:
    """Write a module, or an operation, as MLIR bytecode, which preserves locations."""
    code = io.BytesIO()
    getattr(module, "operation", module).write_bytecode(code)
    return code.getvalue()


def copy_to(module: Any, context: Any) -> Any:
    """Copy `module` to another context of the same build through bytecode."""
    with context:
        return get_ir(context).Module.parse(to_bytecode(module))


def copy(module: Any) -> Any:
    """Copy `module` within its context."""
    return copy_to(module, module.context)


def text(module: Any, *, elide: int | None = ELIDE, locations: bool = False) -> str:
    """Print the module. Constants of more than `elide` elements are abbreviated."""
    printed = module.operation.get_asm(large_elements_limit=elide, enable_debug_info=locations, pretty_debug_info=locations)
    return printed if printed.endswith("\n") else printed + "\n"


def save(module: Any, stem: Path, suffix: str) -> Path:
    """Write the module's annotated text beside `stem`."""
    path = stem.with_name(stem.name + suffix)
    path.write_text(print_annotated(module), encoding="utf-8")
    return path


def print_annotated(module: Any) -> str:
    """Print the module with comments at the end that name its code lines and values."""
    return annotate(module.operation.get_asm(large_elements_limit=ELIDE, enable_debug_info=True, pretty_debug_info=False))


def list_impurities(module: Any, dialects: tuple[str, ...]) -> list[Problem]:
    """Return a problem for each op name outside `dialects`, with its count and first location."""
    found: dict[str, list[Any]] = {}
    for operation in walk_operations(module):
        if operation.name.partition(".")[0] not in dialects:
            found.setdefault(operation.name, []).append(operation)
    return [Problem(f"{name} at {places[0].location}", f"is not in {', '.join(dialects)} ({len(places)} times)")
            for name, places in found.items()]


@contextmanager
def collect_diagnostics(context: Any, place: str) -> Iterator[None]:
    """Convert errors of MLIR in the block to StageFailed with all diagnostics. MLIR's own exceptions do not contain them."""
    found: list[str] = []
    handler = context.attach_diagnostic_handler(lambda diagnostic: _collect(diagnostic, found))
    try:
        yield
    except ShapelineError:
        raise
    except Exception as error:
        if not found and type(error).__name__ != "MLIRError":
            raise
        # jaxlib's build adds the diagnostics to the exception
        raise StageFailed([Problem(place, cause) for cause in found or [str(error)]], str(error)) from error
    finally:
        handler.detach()


def verify(module: Any, place: str) -> None:
    """Verify the module. Raises StageFailed with all diagnostics."""
    with collect_diagnostics(module.context, place):
        module.operation.verify()


def run(module: Any, pipeline: str, place: str) -> None:
    """Run a pass pipeline in place. Raises StageFailed with the diagnostics, the pipeline, and the input IR as a reproducer."""
    build = _get_build(module.context)
    before = module.operation.clone()
    diagnostics: list[str] = []
    handler = module.context.attach_diagnostic_handler(lambda diagnostic: _collect(diagnostic, diagnostics))
    with module.context:
        manager = build.PassManager.parse(pipeline)
        try:
            manager.run(module.operation)
        except Exception as error:
            found = diagnostics or [str(error)]
            comment = "\n".join(found).replace("\n", "\n// ")
            log = f"// pass pipeline: {pipeline}\n// {comment}\n{before.get_asm(large_elements_limit=64)}"
            raise StageFailed([Problem(place, cause, f"pass pipeline {pipeline}") for cause in found], log) from error
        finally:
            handler.detach()


def join_pipelines(*pipelines: str) -> str:
    """Join pipelines, each of the form `builtin.module(...)`, into one that runs them in order."""
    return f"builtin.module({','.join(pipeline.removeprefix('builtin.module(').removesuffix(')') for pipeline in pipelines)})"


def find_entry(module: Any) -> Any:
    """Return the entry function of a module of either build: the first public function with a body, or None."""
    return next((function for function in walk_functions(module) if is_public(function)), None)


def is_public(function: Any) -> bool:
    return "sym_visibility" not in function.attributes or "private" not in str(function.attributes["sym_visibility"])


def find_main(operations: Iterable[Any]) -> Any:
    """Return `@main`, the function that XLA runs, among the operations of a module."""
    return next(function for function in operations if function.attributes["sym_name"].value == "main")


def fix_arguments(module: Any, values: Mapping[int, int]) -> None:
    """Replace the uses of 0-d arguments of `@main`, by position, by constants, in place. The arguments stay."""
    ir = get_ir(module.context)
    block = find_main(module.body.operations).regions[0].blocks[0]
    with module.context, ir.Location.unknown(), ir.InsertionPoint.at_block_begin(block):
        for position, value in values.items():
            type_ = block.arguments[position].type
            attributes = {"value": ir.Attribute.parse(f"dense<{value}> : {type_}")}
            constant = ir.Operation.create("stablehlo.constant", results=[type_], attributes=attributes)
            block.arguments[position].replace_all_uses_with(constant.result)


def replace(op: Any, name: str, attributes: Mapping[str, Any]) -> None:
    """Replace an operation by one called `name`, of the same operands and results."""
    ir = get_ir(op.context)
    with ir.InsertionPoint(op), op.location:
        created = ir.Operation.create(name, results=[result.type for result in op.results], operands=list(op.operands),
                                      attributes=dict(attributes))  # fmt: skip
    for old, new in zip(op.results, created.results, strict=True):
        old.replace_all_uses_with(new)
    op.erase()


def walk_functions(module: Any) -> Iterator[Any]:
    """Iterate over the functions with a body in a module of either build."""
    for operation in module.body.operations:
        if operation.operation.name == "func.func" and len(operation.operation.regions[0].blocks):
            yield operation.operation


def walk_operations(module: Any) -> Iterator[Any]:
    """Iterate over all operations in the module, outermost first, in program order."""
    yield from _walk_nested(module.operation)


def _walk_nested(operation: Any) -> Iterator[Any]:
    for region in operation.regions:
        for block in region.blocks:
            for inner in block.operations:
                yield inner.operation
                yield from _walk_nested(inner.operation)


def count_ops(module: Any) -> dict[str, int]:
    """Count the occurrences of each op."""
    return dict(Counter(operation.name for operation in walk_operations(module)))


def _get_build(context: Any) -> Any:
    if type(context).__module__.startswith("jaxlib"):
        from jaxlib.mlir import passmanager as jax_passmanager

        return jax_passmanager
    from torch_mlir import passmanager

    return passmanager


def get_ir(context: Any) -> Any:
    """Return the Python module `ir` of a context's build."""
    if type(context).__module__.startswith("jaxlib"):
        from jaxlib.mlir import ir as jax_ir

        return jax_ir
    from torch_mlir import ir

    return ir


def _collect(diagnostic: Any, found: list[str]) -> bool:
    """Collect errors with their source lines, without duplicates. Ignore remarks and notes."""
    if "ERROR" in str(diagnostic.severity).upper():
        message = f"{diagnostic.message} at {diagnostic.location}"
        if message not in found:
            found.append(message)
    return True
