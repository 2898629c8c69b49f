"""The bridge from XLA to PyTorch's dispatcher: an FFI handler, built once, registered for each target of custom calls that name an op."""

from __future__ import annotations

import ctypes
from functools import cache
from pathlib import Path
from typing import Any

from lowering.custom import compiler
from lowering.errors import LoadError, Problem, StageFailed
from lowering.ir import mlir

SOURCE = Path(__file__).with_name("bridge.cpp")
PLATFORMS = ("cpu",)
SHAPES = "indices_of_shape_operands"  # attribute: which operands are the shapes of the results, as far as sizes tell them
TYPED_FFI = 4  # the api_version of custom calls that XLA's FFI serves

_registered: set[str] = set()


def calls(module: Any) -> list[Any]:
    """The custom calls of a StableHLO or MHLO module that stand for ops of PyTorch."""
    return [operation for operation in mlir.operations(module) if is_call(operation)]


def is_call(operation: Any) -> bool:
    """Whether an operation is a custom call whose backend_config names a PyTorch op."""
    if not operation.name.endswith("hlo.custom_call") or "backend_config" not in operation.attributes:
        return False
    config = operation.attributes["backend_config"]
    return hasattr(config, "__contains__") and "op" in config and "arguments" in config


def may_call(code: str | bytes) -> bool:
    """False where a module, as text or bytecode, surely holds no such call: a look that costs nothing."""
    mark = "overload"  # a key of the configuration
    return (mark if isinstance(code, str) else mark.encode()) in code  # type: ignore[operator]


def is_open(call: Any) -> bool:
    """Whether only the op's data tells the size of a result: dims are left open, and no operand gives them."""
    return SHAPES not in call.attributes and any("?" in str(result.type) for result in call.results)


def serve(module: Any, platform: str) -> None:
    """Make XLA on `platform` execute the custom calls of `module`; StageFailed on a platform that the bridge does not reach."""
    targets = {operation.attributes["call_target_name"].value for operation in calls(module)} - _registered
    if not targets:
        return
    if platform not in PLATFORMS:
        raise StageFailed(Problem(f"XLA on {platform}", f"has no handler for {', '.join(sorted(targets))}",
                                  "custom ops are executed on cpu: stages.verify.platforms=[cpu]"))
    import jax

    for target in targets:
        jax.ffi.register_ffi_target(target, jax.ffi.pycapsule(_handler()), platform=platform)
        _registered.add(target)


@cache
def _handler() -> Any:
    import jaxlib

    headers = Path(jaxlib.__file__).parent / "include"
    try:
        # the macro tells builds for different versions of jaxlib apart
        built = compiler.build("bridge", [SOURCE], (f"-DJAXLIB={jaxlib.__version__}",), [headers])
    except LoadError as error:
        cause = f"cannot execute custom ops: {'; '.join(problem.cause for problem in error.problems)}"
        fix = "without it the program is lowered all the same: ~stages.verify"
        raise StageFailed(Problem("the bridge to PyTorch", cause, fix), error.log) from error
    return ctypes.CDLL(str(built)).shapeline_torch_op
