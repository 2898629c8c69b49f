"""`Lowered`: a program at every level, with its signature, the record of its dims, and ways to run, verify and save it."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from lowering.eager.module import in_eval_mode
from lowering.errors import ConfigError, Mismatch, Problem, Refused, StageFailed
from lowering.ir import mlir
from lowering.level import Level, Program
from lowering.numerics.delivery import packaging
from lowering.numerics.running.runner import make_runner
from lowering.numerics.running.xla import Xla
from lowering.numerics.verification import Verification
from lowering.numerics.verifier import Settings, verify
from lowering.record.result import Remark
from lowering.signature import Signature
from lowering.symbols import views
from lowering.symbols.schema import SymbolRecord
from shapeline import declaration

MLIR = (Level.TORCH, Level.STABLEHLO, Level.MHLO)


@dataclass(frozen=True)
class Text:
    """A program in MLIR. Its str is the whole text; module: the module of the MLIR bindings."""

    module: Any

    def __str__(self) -> str:
        return mlir.text(self.module, elide=None)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(mlir.text(self.module))}</pre>"


class Texts(dict[str, Text]):
    """Programs by level. A level that is not there is a KeyError that names those that are."""

    def __missing__(self, level: str) -> Text:
        others = {Level.EXPORTED.word: "lowered.exported", Level.TORCHSCRIPT.word: "lowered.torchscript"}
        known = f"no level '{level}'; there are: {', '.join(self) or 'none'}"
        raise KeyError(f"'{level}' is {others[level]}" if level in others else known)


@dataclass(frozen=True)
class Symbols:
    """The fate of every dim. Its repr is the page that a run writes as symbols.md."""

    record: SymbolRecord

    def __repr__(self) -> str:
        return views.format_page(self.record)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(repr(self))}</pre>"


def clone_buffers(signature: Signature, weights: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return a copy of each buffer that the program has a new value of."""
    return {result.name: weights[result.name].clone() for result in signature.results if result.kind == "buffer_mutation"}


def complete(signature: Signature, computed: Sequence[torch.Tensor], states: Mapping[str, torch.Tensor]) -> list[Any]:
    """Write the new values of states among the computed results, and return the leaves of what the module returns."""
    found = dict(zip(signature.returned, computed, strict=True))
    with torch.no_grad():
        for result, value in found.items():
            if result.kind in ("buffer_mutation", "input_mutation"):
                states[result.name].copy_(value)
    return [states[result.state] if result.state is not None and result.kind == "state" else found.get(result, result.value)
            for result in signature.results if result.kind in ("output", "constant", "state")]


@dataclass(frozen=True)
class Lowered:
    """A lowered module. program: at the last level; symbols: the fate of its dims; warnings: what the stages recorded.

    constants: the arguments that are no tensors, by path, with the values that the program was made for.
    """

    program: Program
    symbols: Symbols
    warnings: tuple[Remark, ...] = ()
    constants: Mapping[str, Any] = field(default_factory=dict)
    _device: Xla = field(default_factory=Xla, repr=False, compare=False)

    @property
    def exported(self) -> torch.export.ExportedProgram:
        """The functional program of torch.export."""
        return self._at(Level.EXPORTED).ir

    @property
    def torchscript(self) -> torch._C.Graph:
        """The TorchScript graph."""
        return self._at(Level.TORCHSCRIPT).ir

    @cached_property
    def mlir(self) -> Mapping[str, Text]:
        """The programs in MLIR by level: `torch`, `stablehlo`, `mhlo`, as far as the module was lowered."""
        found = {level.word: self.program.at(level) for level in MLIR}
        return Texts({word: Text(program.ir) for word, program in found.items() if program is not None})

    @property
    def signature(self) -> Signature:
        """Arguments, weights first, results, ranges and guards: the same at every level."""
        assert self.program.signature is not None
        return self.program.signature

    @property
    def weights(self) -> Mapping[str, torch.Tensor]:
        """Parameters, buffers and tensor constants by name: arguments of the program, never part of an IR."""
        return self.program.weights

    @cached_property
    def buffers(self) -> Mapping[str, torch.Tensor]:
        """The buffers that forward writes to, as the calls so far left them. Those of the module itself stay as they are."""
        return clone_buffers(self.signature, self.weights)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program at its last level (the MLIR levels by XLA on the CPU) on arguments of the module, and return what it returns.

        Arguments that forward writes to are written, and its buffers are carried from call to call (see `buffers`). XLA compiles once for
        each set of sizes. Raises Refused for arguments that do not fit, or sizes outside the ranges.
        """
        arguments = declaration.bind(self._built.module, args, kwargs)
        given = dict(declaration.list_tensors(arguments))
        self._check_constants(arguments)
        values = complete(self.signature, self._run(given), {**self.buffers, **given})
        return torch.utils._pytree.tree_unflatten(values, self._at(Level.EXPORTED).ir.call_spec.out_spec)

    def _check_constants(self, arguments: Mapping[str, Any]) -> None:
        """Raise Refused for each argument that is no tensor and has another value than the one that the program was made for."""
        found, made = declaration.list_constants(self._built.module, arguments), self.constants
        problems = [Problem(f"argument '{name}'", f"is {found.get(name)!r}, and the program was made for {made.get(name)!r}",
                            "lower the module with that value")
                    for name in {**made, **found} if repr(found.get(name)) != repr(made.get(name))]  # fmt: skip
        if problems:
            raise Refused(problems)

    def verify(self, points: int = 4) -> Verification:
        """Compare the last level with the module at `points` or more shape points over the ranges.

        Raises ConfigError if `points` is no positive integer, Mismatch or StageFailed.
        """
        if not isinstance(points, int) or points < 1:
            raise ConfigError(Problem("points", f"is {points!r}", "give a number of shape points, 1 or more"))
        with in_eval_mode(self._built.module):
            found, _ = verify(self.program, Settings(points, [self.program.level]))
        if found.mismatches:
            raise Mismatch(found.mismatches)
        if found.failures or not found.points:
            raise StageFailed(found.failures or Problem("verify", "no shape point could be compared", "widen the ranges"))
        return found

    def save(self, folder: str | Path) -> list[Path]:
        """Write the IR of every level (`mhlo.mlir`, ...), symbols.json, symbols.md, and what `shapeline exec FOLDER` runs.

        Raises OSError.
        """
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        paths = list(self._save_levels(folder))
        views.save(self.symbols.record, folder)
        if self.program.level is Level.MHLO:
            paths += packaging.save(self.program, folder, packaging.locate_store(folder))
        return paths

    def _save_levels(self, folder: Path) -> Iterator[Path]:
        texts = {word: str(text) for word, text in self.mlir.items()}
        if self.program.at(Level.TORCHSCRIPT) is not None:
            texts[Level.TORCHSCRIPT.word] = str(self.torchscript)
        texts[Level.EXPORTED.word] = self.exported.graph_module.print_readable(print_output=False)
        suffixes = {Level.TORCHSCRIPT.word: ".ts", Level.EXPORTED.word: ".py"}
        for word, text in texts.items():
            path = folder / f"{word}{suffixes.get(word, '.mlir')}"
            path.write_text(text, encoding="utf-8")
            yield path

    @cached_property
    def _run(self) -> Any:
        self._device.hold({name: value for name, value in self.weights.items() if name not in self.buffers})
        return make_runner(replace(self.program, weights={**self.weights, **self.buffers}), self._device)

    @property
    def _built(self) -> Any:
        return self._at(Level.MODEL).ir

    def _at(self, level: Level) -> Program:
        found = self.program.at(level)
        if found is None:
            raise AttributeError(f"the module was lowered to {self.program.level.word} only: pass until='{level.word}' or a later level")
        return found

    def __repr__(self) -> str:
        dims = ", ".join(f"{name} {bound}" for name, bound in self.signature.symbols.items())
        warned = f"{len(self.warnings)} warning{'s' if len(self.warnings) != 1 else ''}"
        return f"Lowered({self._built.model.name} at {self.program.level.word}; {dims or 'static'}; {warned})"

    def _repr_html_(self) -> str:
        parts = [f"<details><summary>{word}</summary>{text._repr_html_()}</details>" for word, text in self.mlir.items()]
        return f"<p>{html.escape(repr(self))}</p>{self.symbols._repr_html_()}{''.join(parts)}"
