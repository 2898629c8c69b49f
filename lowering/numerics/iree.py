"""IREE, an optional second consumer: takes the torch dialect level, compiled once for all shapes.

It shares no code with the lowering to StableHLO below that level, so it tells a wrong import from a wrong lowering.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch

from lowering import types
from lowering.errors import Problem, StageFailed

INSTALL = "pip install 'shapeline[iree]'"

# What IREE's Python runtime has a numpy dtype for.
_DTYPES = {name for name in types.DTYPES if not name.startswith(("bfloat", "float8"))}


# Python's operators on tensors: IREE has patterns only for the ops that they stand for.
_OPERATORS = {f"torch.aten.__{word}__.Tensor": f"torch.aten.bitwise_{word}.Tensor" for word in ("and", "or", "xor")}


@cache
def available() -> bool:
    """Whether both of IREE's packages are installed."""
    try:
        return all(importlib.util.find_spec(name) is not None for name in ("iree.compiler", "iree.runtime"))
    except ModuleNotFoundError:
        return False


class Iree:
    """A torch dialect module (text, backend contract, entry `@main`) compiled for this CPU; StageFailed when IREE does not take it."""

    def __init__(self, text: str) -> None:
        from iree.compiler import tools

        for operator, op in _OPERATORS.items():
            text = text.replace(f"{operator} ", f"{op} ")
        arguments = ["--iree-llvmcpu-target-cpu=host"]
        try:
            self._bytecode = tools.compile_str(text, input_type="torch", target_backends=["llvm-cpu"], extra_args=arguments)
        except tools.CompilerToolError as error:
            lines = [line for line in str(error).splitlines() if "error:" in line]
            cause = lines[0].partition("error: ")[2].partition(" loc(")[0] if lines else "the compiler ended without a diagnostic"
            raise StageFailed(Problem("IREE on the torch level", cause), str(error)) from None
        self._function, self._device = self._load()
        self._held: dict[int, tuple[torch.Tensor, Any]] = {}

    def _load(self) -> tuple[Any, Any]:
        from iree import runtime

        config = runtime.Config("local-task")
        context = runtime.SystemContext(config=config)
        context.add_vm_module(runtime.VmModule.copy_buffer(context.instance, self._bytecode))
        return context.modules.module["main"], config.device

    def hold(self, weights: Mapping[str, torch.Tensor]) -> None:
        """Put weights on the device for good."""
        for tensor in weights.values():
            if id(tensor) not in self._held:
                self._held[id(tensor)] = (tensor, self._put(tensor))

    def run(self, arguments: Sequence[torch.Tensor | int]) -> tuple[torch.Tensor, ...]:
        """The results at the arguments' shapes; StageFailed when IREE fails at run time."""
        given = [argument if isinstance(argument, int) else self._held[id(argument)][1] if id(argument) in self._held
                 else self._put(argument)
                 for argument in arguments]
        try:
            results = self._function(*given)
        except (RuntimeError, ValueError) as error:
            raise StageFailed(Problem("IREE on the torch level", f"cannot run: {str(error).splitlines()[0]}"), str(error)) from None
        listed = results if isinstance(results, tuple | list) else (results,)
        return tuple(torch.from_numpy(result.to_host().copy()) if hasattr(result, "to_host") else torch.tensor(result) for result in listed)

    def _put(self, tensor: torch.Tensor) -> Any:
        from iree import runtime

        if types.dtype_name(tensor.dtype) not in _DTYPES:
            raise StageFailed(Problem("IREE on the torch level", f"its Python runtime takes no {types.dtype_name(tensor.dtype)}"))
        return runtime.asdevicearray(self._device, tensor.detach().cpu().contiguous().resolve_conj().resolve_neg().numpy())
