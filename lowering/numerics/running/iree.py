"""IREE, an optional consumer: takes the torch dialect level, compiled once for all shapes, and StableHLO.

At the torch level it shares no code with the lowering to StableHLO, so it tells a wrong import from a wrong lowering.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from functools import cache
from types import MappingProxyType
from typing import Any

import torch

from lowering import types
from lowering.errors import Problem, StageFailed
from lowering.ir import composites, mlir
from lowering.numerics.running import reference_interpreter
from lowering.numerics.running.held import Held

INSTALL = "pip install 'shapeline[iree]'"

# What IREE's Python runtime has a numpy dtype for.
_DTYPES = {name for name in types.DTYPES if not name.startswith(("bfloat", "float8"))}


# Python's operators on tensors: IREE has patterns only for the ops that they stand for.
_OPERATORS = {f"torch.aten.__{word}__.Tensor": f"torch.aten.bitwise_{word}.Tensor" for word in ("and", "or", "xor")}


@cache
def is_available() -> bool:
    """Return whether both of IREE's packages are installed."""
    try:
        return all(importlib.util.find_spec(name) is not None for name in ("iree.compiler", "iree.runtime"))
    except ModuleNotFoundError:
        return False


class Iree:
    """A module (text, entry `@main`) compiled for this CPU; StageFailed when IREE does not take it.

    level: `torch` (at the backend contract) or `stablehlo`.
    """

    def __init__(self, text: str, level: str = "torch") -> None:
        from iree.compiler import tools

        self._place = f"IREE on the {level} level"
        for operator, op in _OPERATORS.items():
            text = text.replace(f"{operator} ", f"{op} ")
        arguments = ["--iree-llvmcpu-target-cpu=host"]
        try:
            self._bytecode = tools.compile_str(text, input_type=level, target_backends=["llvm-cpu"], extra_args=arguments)
        except tools.CompilerToolError as error:
            lines = [line for line in str(error).splitlines() if "error:" in line]
            cause = lines[0].partition("error: ")[2].partition(" loc(")[0] if lines else "the compiler ended without a diagnostic"
            raise StageFailed(Problem(self._place, cause), str(error)) from None
        self._function, self._device = self._load()
        self._held = Held()

    def _load(self) -> tuple[Any, Any]:
        from iree import runtime

        config = runtime.Config("local-task")
        context = runtime.SystemContext(config=config)
        context.add_vm_module(runtime.VmModule.copy_buffer(context.instance, self._bytecode))
        return context.modules.module["main"], config.device

    def hold(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Put weights on the device for good."""
        self._held.hold(weights.values(), self._put)

    def run(self, arguments: Sequence[torch.Tensor | int]) -> tuple[torch.Tensor, ...]:
        """Return the results at the arguments' shapes. Raises StageFailed if IREE fails at run time."""
        given = [argument if isinstance(argument, int) else self._held.take(argument, self._put) for argument in arguments]
        try:
            results = self._function(*given)
        except (RuntimeError, ValueError) as error:
            raise StageFailed(Problem(self._place, f"cannot run: {str(error).splitlines()[0]}"), str(error)) from None
        listed = results if isinstance(results, tuple | list) else (results,)
        return tuple(torch.from_numpy(result.to_host().copy()) if hasattr(result, "to_host") else torch.tensor(result) for result in listed)

    def _put(self, tensor: torch.Tensor) -> Any:
        from iree import runtime

        if types.dtype_name(tensor.dtype) not in _DTYPES:
            raise StageFailed(Problem(self._place, f"its Python runtime takes no {types.dtype_name(tensor.dtype)}"))
        return runtime.asdevicearray(self._device, tensor.detach().cpu().contiguous().resolve_conj().resolve_neg().numpy())


class StableHLO:
    """StableHLO of torch_mlir's build, compiled once for all shapes, or for the shapes of each run where IREE does not take it dynamic.

    It has no code for shape assertions, so sizes outside the ranges are not refused.
    """

    def __init__(self, module: Any) -> None:
        self._module = mlir.copy(module)
        composites.inline(self._module)
        for op in list(mlir.walk_operations(self._module)):
            if op.name == "stablehlo.custom_call" and op.attributes["call_target_name"].value == "shape_assertion":
                op.erase()
        self._weights: dict[str, torch.Tensor] = {}
        self._engines: dict[Any, Iree] = {}
        self.refused_dynamic = ""
        try:
            self._dynamic: Iree | None = Iree(mlir.text(self._module, elide=None), "stablehlo")
        except StageFailed as error:
            self._dynamic, self.refused_dynamic = None, error.problems[0].cause

    def hold(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Put weights on the device for good."""
        self._weights = dict(weights)
        if self._dynamic is not None:
            self._dynamic.hold(weights)

    def run(self, arguments: Sequence[torch.Tensor], values: Mapping[int, int] = MappingProxyType({})) -> tuple[torch.Tensor, ...]:
        """Run on `arguments`. values: of 0-d arguments that sizes depend on, by position. Raises StageFailed, Unsupported."""
        if self._dynamic is not None:
            return self._dynamic.run(arguments)
        key = tuple((tensor.dtype, tuple(tensor.shape)) for tensor in arguments), tuple(sorted(values.items()))
        if key not in self._engines:
            static = reference_interpreter.refine(self._module, key[0], values)
            self._engines = {key: Iree(mlir.text(static, elide=None), "stablehlo")}
            self._engines[key].hold(self._weights)
        return self._engines[key].run(arguments)
