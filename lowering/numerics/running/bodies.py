"""Functions that run the program of each level on weights and inputs in the signature's order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.export.graph_signature import ConstantArgument

from lowering.custom import marks
from lowering.errors import Problem, ShapelineError, StageFailed
from lowering.ir import mlir
from lowering.level import Program
from lowering.numerics.running import iree
from lowering.numerics.running.xla import Xla
from lowering.signature import Signature
from lowering.store import programs
from lowering.store.digests import compute_digest

Body = Callable[[list[torch.Tensor]], Any]  # weights and inputs in order


def restore_numbers(signature: Signature, values: Sequence[torch.Tensor]) -> list[Any]:
    """Return `values` in the signature's order, with ints where the levels of torch take ints."""
    return [value if argument.value is None else int(value) for argument, value in zip(signature.arguments, values, strict=True)]


def find_known_ints(signature: Signature, values: Sequence[torch.Tensor]) -> dict[int, int]:
    """Return the ints among the arguments, by position: sizes depend on them, and XLA compiles for sizes."""
    return {position: int(values[position]) for position, argument in enumerate(signature.arguments) if argument.value is not None}


def build_exported(program: Program) -> Body:
    """Return how to run an exported program on weights and inputs in the signature's order."""
    assert program.signature is not None
    interpreter, signature = torch.fx.Interpreter(program.ir.graph_module), program.signature
    specs = program.ir.graph_signature.input_specs
    kept = [result.kind not in ("constant", "state") for result in signature.results]

    def run(values: list[torch.Tensor]) -> list[Any]:
        rest = iter(restore_numbers(signature, values))
        full = [spec.arg.value if isinstance(spec.arg, ConstantArgument) else next(rest) for spec in specs]
        with torch.no_grad():
            return [result for result, keep in zip(interpreter.run(*full), kept, strict=True) if keep]

    return _convert_errors("exported level", run)


class Script:
    """Runs a TorchScript graph."""

    def __init__(self, program: Program) -> None:
        assert program.signature is not None
        self.program, self.signature = program, program.signature
        self.function = torch._C._create_function_from_graph("forward", program.ir)
        self._run = _convert_errors("torchscript level", self._call)
        self._digest: str | None = None

    def __call__(self, values: list[torch.Tensor]) -> Any:
        return self._run(values)

    def identify(self, values: list[torch.Tensor]) -> str | None:
        if self._digest is None:
            content = programs.dump(self.program)
            self._digest = compute_digest(content) if content is not None else ""
        return self._digest or None

    def _call(self, values: list[torch.Tensor]) -> Any:
        with torch.no_grad(), torch.jit.optimized_execution(False):  # type: ignore[attr-defined]
            result = self.function(*restore_numbers(self.signature, values))
        return result if isinstance(result, tuple) else (result,)


def build_torch(program: Program) -> Body:
    """Return how IREE runs a program of the torch dialect. Raises StageFailed if it does not take it."""
    compiled = iree.Iree(program.ir if isinstance(program.ir, str) else mlir.text(_unmark(program.ir), elide=None))
    compiled.hold(program.weights)
    assert program.signature is not None
    signature = program.signature
    return lambda values: compiled.run(restore_numbers(signature, values))


def _unmark(module: Any) -> Any:
    """Return a module of the torch dialect without the marks of composites."""
    copy = mlir.copy(module)
    marks.strip_torch_dialect(copy)
    return copy


class Hlo:
    """Runs a program in StableHLO or MHLO by XLA."""

    def __init__(self, program: Program, xla: Xla) -> None:
        assert program.signature is not None
        xla.hold(program.weights)
        self.text, self.signature, self.xla = mlir.text(program.ir, elide=None), program.signature, xla

    def __call__(self, values: list[torch.Tensor]) -> Any:
        return self.xla.run(self.text, values, find_known_ints(self.signature, values))

    def identify(self, values: list[torch.Tensor]) -> str | None:
        return self.xla.identify(self.text, values, find_known_ints(self.signature, values))


def _convert_errors(place: str, run: Body) -> Body:
    def run_failing(values: list[torch.Tensor]) -> Any:
        try:
            return run(values)
        except ShapelineError:
            raise
        except Exception as error:
            last = (str(error).strip().splitlines() or ["without a message"])[-1]
            raise StageFailed(Problem(place, f"raised {type(error).__name__}: {last}"), str(error)) from error

    return run_failing
