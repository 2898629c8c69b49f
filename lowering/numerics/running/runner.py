"""Runs a program at any level: weights and inputs in, the results of its signature out, as CPU tensors in the signature's order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from lowering.eager import control_flow, duplicates, training, widening
from lowering.eager.mlir_module import MlirModule
from lowering.eager.module import restore_buffers, run_eager
from lowering.errors import LoadError, Problem, Refused, StageFailed
from lowering.ir import quantized_types
from lowering.level import Level, Program
from lowering.model import Model
from lowering.numerics.running import counted, integers, iree
from lowering.numerics.running.bodies import Body, Hlo, Script, build_exported, build_torch
from lowering.numerics.running.xla import Xla
from lowering.signature import Signature

Tensors = Mapping[str, torch.Tensor]
Run = Callable[[Tensors], tuple[torch.Tensor, ...]]

# Levels that run: the torch dialect where IREE is installed, the others everywhere.
RUNNABLE = (Level.EXPORTED, Level.TORCHSCRIPT, Level.TORCH, Level.STABLEHLO, Level.MHLO)

# Values that are no tensors at the levels of torch: how they are compared.
_SCALARS = {"int": torch.int64, "float": torch.float64, "bool": torch.bool}


def list_names(signature: Signature) -> tuple[list[str], list[str]]:
    """Return the names of the arguments and of the results that a program computes."""
    return [argument.name for argument in signature.arguments], [result.label for result in signature.computed]


def runs_here(level: Level) -> bool:
    return level in RUNNABLE and (level is not Level.TORCH or iree.is_available())


@dataclass(frozen=True)
class LevelRun:
    """Runs a form of a program: a function from inputs by name to the results of its signature. It raises Refused and StageFailed.

    build: returns how to run a form, which may have further results after those of the signature.
    weights: by name, in place of the form's own.
    """

    form: Program
    build: Callable[[Program], Body]
    body: Body
    weights: Tensors = field(default_factory=dict)

    @staticmethod
    def prepare(form: Program, build: Callable[[Program], Body]) -> LevelRun:
        return LevelRun(form, build, build(form))

    def identify(self, given: Tensors) -> str | None:
        """Return a digest of the program that runs on inputs of these shapes, without weights and inputs, or None if it has none."""
        if not isinstance(self.body, Hlo | Script):
            return None
        return self.body.identify(order_arguments(self._signature, {**self.form.weights, **self.weights}, given))

    def __call__(self, given: Tensors) -> tuple[torch.Tensor, ...]:
        signature = self._signature
        computed = self.body(order_arguments(signature, {**self.form.weights, **self.weights}, given))
        if len(computed) != len(signature.computed):
            cause = f"gives {len(computed)} results, its signature has {len(signature.computed)}"
            raise StageFailed(Problem(f"{self.form.level.word} level", cause))
        return self._trim(computed)

    def run_with_integers(self, given: Tensors) -> tuple[tuple[torch.Tensor, ...], list[integers.Made]]:
        """Return the results, and those of each op that converts floats to integers (see `integers`), except inside loops of HLO."""
        values = order_arguments(self._signature, {**self.form.weights, **self.weights}, given)
        if self.form.level not in (Level.STABLEHLO, Level.MHLO):
            with integers.Recording() as recording:
                return self._trim(self.body(values)), recording.found
        computed = self.build(integers.return_all(self.form))(values)
        count = len(self._signature.computed)
        further = list(map(as_tensor, computed[count:]))
        return self._trim(computed[:count]), list(map(integers.Made, further[::2], further[1::2]))

    def _trim(self, computed: Sequence[Any]) -> tuple[torch.Tensor, ...]:
        return counted.trim(self._signature, [as_tensor(value) for value in computed])

    @property
    def _signature(self) -> Signature:
        assert self.form.signature is not None
        return self.form.signature


def make_runner(program: Program, xla: Xla) -> LevelRun:
    """Return a function from inputs by name to the results of `program`, which raises Refused and StageFailed.

    Raises ValueError if the level does not run here, and StageFailed if IREE does not accept a program at the torch level, which says
    nothing about the program's numbers.
    """
    if program.signature is None or not runs_here(program.level):
        raise ValueError(f"level {program.level.word} does not run here")
    program = expand_types(program)
    builds: dict[Level, Callable[[Program], Body]] = {Level.EXPORTED: build_exported, Level.TORCHSCRIPT: Script, Level.TORCH: build_torch}
    return LevelRun.prepare(program, builds.get(program.level, partial(Hlo, xla=xla)))


def expand_types(form: Program) -> Program:
    """Return a form whose quantized types are written as arithmetic, which XLA and the interpreter run; others as they are."""
    if form.level not in (Level.STABLEHLO, Level.MHLO) or (expanded := quantized_types.expand(form.ir)) is form.ir:
        return form
    return replace(form, ir=expanded)


def order_arguments(signature: Signature, weights: Tensors, given: Tensors) -> list[torch.Tensor]:
    """Return weights and inputs in the signature's order. Raise Refused with each missing or unknown input, wrong dtype or static dim."""
    names = {argument.name for argument in signature.inputs}
    known = f"inputs: {', '.join(sorted(names))}"
    problems = [Problem(f"input '{name}'", "is not an input of the program", known) for name in given if name not in names]
    for argument in signature.inputs:
        value = given.get(argument.name)
        if value is None:
            problems.append(Problem(f"input '{argument.name}'", "is missing"))
            continue
        fits = len(value.shape) == len(argument.dims) and all(
            isinstance(dim, str) or dim == size for dim, size in zip(argument.dims, value.shape, strict=True)
        )
        word = str(value.dtype).removeprefix("torch.")
        if not fits or (argument.dtype != word and argument.dtype not in _SCALARS):
            problems.append(Problem(f"input '{argument.name}'", f"is {word}{list(value.shape)}",
                                    f"the program takes {argument.dtype}[{', '.join(map(str, argument.dims))}]"))
    if problems:
        raise Refused(problems)
    return [given[argument.name] if argument.kind == "input" else weights[argument.name] for argument in signature.arguments]


def as_tensor(value: Any) -> torch.Tensor:
    """Return a result of a level of torch as a tensor on the CPU; a Python number has the dtype that verify compares it in."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu")
    return torch.tensor(value, dtype=_SCALARS[type(value).__name__])


@dataclass(frozen=True)
class Eager:
    """The reference: the module as its author wrote it, its buffers and inputs left untouched whatever forward does to them."""

    model: Model
    module: torch.nn.Module
    signature: Signature

    def __call__(self, given: Tensors) -> tuple[torch.Tensor, ...]:
        """Return all results of the signature. Raise LoadError if the model raises or returns other outputs."""
        passed = {name: value.clone() for name, value in given.items()}
        with control_flow.run_as_python(), restore_buffers(self.module):
            outputs = run_eager(self.module, self.model, passed)
            leaves = {**outputs.positional, **outputs.leaves}  # a TorchScript file's named tuples are tuples to its program
            state = {"output": leaves, "buffer_mutation": dict(self.module.named_buffers()), "input_mutation": passed}
            if self.model.mode == "training":
                state["gradient"] = training.compute_gradients(self.module, self.model, outputs)
            missing = [result.name for result in self.signature.returned if result.name not in state[result.kind]]
            if missing:
                raise LoadError(Problem(f"models.{self.model.name}", f"eager does not return {', '.join(missing)} at these sizes",
                                        "the structure of the outputs must not depend on sizes"))
            return tuple(as_tensor(state[result.kind][result.name]).clone() for result in self.signature.returned)

    @property
    def is_opaque(self) -> bool:
        """Whether a consumer of MLIR computes the results, whose ops PyTorch cannot follow."""
        return isinstance(self.module, MlirModule)

    def double(self) -> Eager:
        """Return the same in float64: weights, buffers, floating inputs, and tensors that forward creates or casts are widened."""
        if self.model.mode == "inference" and widening.can_widen(self.module):
            return _Widened(self.model, self.module, self.signature)
        return self._copy()

    def _copy(self) -> Eager:
        """Return the same in float64, on a widened copy of the module. Raises LoadError if a program in MLIR has none."""
        module = self.module if self.is_opaque else duplicates.duplicate(self.module, self.model)
        return _Double(self.model, module.double(), self.signature)


class _Double(Eager):
    """In float64, with attention as it is documented: eager's fused kernel gives 0 for some rows of NaN, depending on their length.

    In training, where operands are not widened one by one, casts to narrower floats are casts to float64.
    """

    def __call__(self, given: Tensors) -> tuple[torch.Tensor, ...]:
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            with sdpa_kernel(SDPBackend.MATH), widening.widen_dtypes() if self.model.mode == "training" else nullcontext():
                return super().__call__({name: value.double() if value.is_floating_point() else value for name, value in given.items()})
        finally:
            torch.set_default_dtype(before)


class _Widened(Eager):
    """Runs in float64 as _Double does, and copies the weights only if the module cannot run without a copy."""

    def __call__(self, given: Tensors) -> tuple[torch.Tensor, ...]:
        lean = _Double(self.model, widening.copy_sharing_parameters(self.module, self.model), self.signature)
        try:
            with widening.widen():
                return lean(given)
        except (LoadError, RuntimeError):
            return self._copy()(given)
