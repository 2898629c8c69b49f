"""libtorch without Python, which runs the deployable module of the TorchScript level in a process of its own."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import weakref
from pathlib import Path
from typing import Any

import torch

from lowering.custom import compiler
from lowering.errors import Problem, StageFailed, Unsupported
from lowering.level import Program
from lowering.torchscript import deployable

PLACE = "libtorch"
INSTALL = "install g++ or clang++, or name a compiler in CXX"
_SOURCE = Path(__file__).with_suffix(".cpp")
_SECONDS = 600  # of a run, at most


def is_available() -> bool:
    """Return whether there is a C++ compiler; libtorch itself is in PyTorch's wheel."""
    return compiler.find_compiler() is not None


class Libtorch:
    """A program of the TorchScript level as a deployable module, run by a C++ program that is built once and cached.

    Raises LoadError with the compiler's output where that does not build, Unsupported for models with op libraries.
    """

    def __init__(self, program: Program) -> None:
        assert program.signature is not None
        if program.model is not None and program.model.libraries:
            raise Unsupported(Problem(PLACE, "the model has op libraries, which this consumer does not load"))
        self._runner = compiler.build_program(PLACE, [_SOURCE])
        folder = Path(tempfile.mkdtemp(prefix="shapeline-libtorch-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._module = folder / "module.pt"
        deployable.build_module(program).save(str(self._module))
        self._takes = [argument.kind == "input" for argument in program.signature.arguments]

    def run(self, values: list[Any]) -> tuple[Any, ...]:
        """Return the results on weights and inputs in the signature's order; the weights are those of the module.

        Raises StageFailed with libtorch's message.
        """
        given, computed = (self._module.with_name(name) for name in ("inputs.pt", "results.pt"))
        torch.save([value for value, is_input in zip(values, self._takes, strict=True) if is_input], given)
        words = list(map(str, (self._runner, self._module, given, computed)))
        try:
            ended = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False, timeout=_SECONDS)
        except subprocess.TimeoutExpired:
            raise StageFailed(Problem(PLACE, f"did not end in {_SECONDS} s")) from None
        if ended.returncode:
            lines = ended.stderr.strip().splitlines() or [f"ended with code {ended.returncode}"]
            raise StageFailed(Problem(PLACE, f"cannot run: {lines[-1]}"), ended.stderr)
        found = torch.load(computed, weights_only=True)
        return tuple(found) if isinstance(found, tuple | list) else (found,)
