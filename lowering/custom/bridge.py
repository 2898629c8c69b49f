"""The bridge from XLA to PyTorch's dispatcher: an FFI handler, built once and registered for each custom call target that names an op."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

from lowering.custom import compiler
from lowering.custom.naming import FILE_OPS
from lowering.errors import LoadError, Problem, StageFailed
from lowering.ir import mlir

SOURCE = Path(__file__).with_name("bridge.cpp")
PLATFORMS = ("cpu",)
SHAPES = "indices_of_shape_operands"  # attribute: the operands that are the shapes of the results, where sizes determine them
TYPED_FFI = 4  # api_version of the custom calls that XLA's FFI handles
_OWN = ("stablehlo.", "mhlo.", "chlo.", "xla.sdy.")  # starts of targets that XLA and the lowering know

_registered: set[str] = set()


def list_calls(module: Any) -> list[Any]:
    """List the custom calls of a StableHLO or MHLO module that represent PyTorch ops."""
    return [operation for operation in mlir.walk_operations(module) if is_call(operation)]


def is_call(operation: Any) -> bool:
    """Return whether an operation is a custom call whose backend_config names a PyTorch op."""
    if not operation.name.endswith("hlo.custom_call") or "backend_config" not in operation.attributes:
        return False
    config = operation.attributes["backend_config"]
    return hasattr(config, "__contains__") and "op" in config and "arguments" in config


def list_foreign(module: Any) -> list[str]:
    """List the targets of custom calls that are neither the lowering's own nor PyTorch ops: XLA would call whatever has that name."""
    found = (operation for operation in mlir.walk_operations(module) if operation.name.endswith("hlo.custom_call"))
    targets = {operation.attributes["call_target_name"].value for operation in found if not is_call(operation) or _opens_files(operation)}
    return sorted(target for target in targets if target != "shape_assertion" and not target.startswith(_OWN))


def _opens_files(call: Any) -> bool:
    """Return whether a call runs an op of PyTorch that reads or writes files."""
    return str(call.attributes["backend_config"]["op"]).strip('"').rpartition("::")[2] in FILE_OPS


def may_call(code: str | bytes) -> bool:
    """Return False if a module, as text or bytecode, certainly holds no such call. A cheap check without parsing."""
    mark = "overload"  # a key of the configuration
    return (mark if isinstance(code, str) else mark.encode()) in code  # type: ignore[operator]


def is_open(call: Any) -> bool:
    """Return whether the size of a result depends on the op's data: it has dynamic dims that no operand gives."""
    return SHAPES not in call.attributes and any("?" in str(result.type) for result in call.results)


def serve(module: Any, platform: str) -> None:
    """Register a handler on `platform` for the custom calls of `module`. Raises StageFailed if the bridge does not support the platform."""
    targets = {operation.attributes["call_target_name"].value for operation in list_calls(module)} - _registered
    if not targets:
        return
    if platform not in PLATFORMS:
        raise StageFailed(Problem(f"XLA on {platform}", f"has no handler for {', '.join(sorted(targets))}",
                                  "custom ops run only on cpu: use stages.verify.platforms=[cpu]"))
    import jax

    for target in targets:
        jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(_build_handler()), platform=platform)
        _registered.add(target)


@cache
def _build_handler() -> Any:
    import jaxlib

    headers = Path(jaxlib.__file__).parent / "include"
    try:
        # the macro distinguishes builds for different versions of jaxlib
        built = compiler.build("bridge", [SOURCE], (f"-DJAXLIB={jaxlib.__version__}",), [headers])
    except LoadError as error:
        cause = f"cannot execute custom ops: {'; '.join(problem.cause for problem in error.problems)}"
        fix = "to lower the program without running it, remove the stage: ~stages.verify"
        raise StageFailed(Problem("the bridge to PyTorch", cause, fix), error.log) from error
    return ctypes.CDLL(str(built)).shapeline_torch_op
