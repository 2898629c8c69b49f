"""MODEL -> TORCH, STABLEHLO or MHLO: read a program in MLIR, at whose level the job starts.

They replace the stages above the level of a model whose factory is `lowering.sources.mlir.load`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from lowering.eager.mlir_module import MlirModule
from lowering.eager.module import instantiate
from lowering.errors import Problem, Unsupported
from lowering.ir import mlir
from lowering.legalize import chlo_ops
from lowering.level import Level, Program
from lowering.model import Built, Model
from lowering.sizes.dims import Affine
from lowering.sources import mlir as source
from lowering.stage import EVERYTHING, Note, Read, Stage
from lowering.symbols.schema import Requested, SymbolRecord
from lowering.symbols.tracing.exporting import convert_promise, dim_id
from lowering.torch_dialect.backend_contract import ToBackendContract

# Keys of a model that change its module or its export, with the values that change nothing.
_OF_MODULES: Mapping[str, Any] = {"mode": "inference", "weights": "random", "checkpoint": None, "dtype": None, "quantization": None,
                                  "method": "forward", "capacities": {}, "constants": {}}  # fmt: skip


class ReadMlir(Stage):
    """A stage that reads the program of a model."""

    def requires(self, program: Program) -> Sequence[Problem]:
        model = program.model
        assert model is not None
        found = [Problem(f"models.{model.name}.{key}", f"applies to modules, and the source is {self.target.word} in MLIR", "remove it")
                 for key, unset in _OF_MODULES.items() if getattr(model, key) != unset]
        if model.buckets:
            cause = "cut results at their true sizes, and a source in MLIR does not say which sizes its results have"
            found.append(Problem(f"models.{model.name}.buckets", cause, "remove them"))
        return found

    def apply(self, program: Program, note: Note) -> Program:
        given, module = self._load(program, note)
        return given.replace_ir(self.target, module)

    def _load(self, program: Program, note: Note) -> tuple[Program, Any]:
        """Return the built model with its signature, and the MLIR module. Raises LoadError and Unsupported."""
        model: Model = program.ir.model if isinstance(program.ir, Built) else program.ir
        held = program.ir.module if isinstance(program.ir, Built) else instantiate(model)
        assert isinstance(held, MlirModule)
        module = source.parse(held)
        signature = source.build_signature(module, model, held.level)
        note.report("symbols", describe_symbols(model).to_json())
        note("export_skipped", f"the source is {held.level.word} in MLIR: the levels above it do not exist", held.path)
        return Program(Level.MODEL, Built(model, held), signature), module

    def reads(self) -> frozenset[Read]:
        return EVERYTHING

    def ensures(self, program: Program) -> Sequence[Problem]:
        mlir.verify(program.ir, self.target.word)
        return ()

    def save(self, program: Program, stem: Path) -> list[Path]:
        return [mlir.save(program.ir, stem, self.target.suffix)]

    def ops(self, program: Program) -> dict[str, int]:
        return mlir.count_ops(program.ir)


@dataclass(frozen=True)
class ReadTorch(ReadMlir, ToBackendContract):
    """Read the torch dialect, and simplify it to the backend contract."""

    source: ClassVar[Level] = Level.MODEL
    target: ClassVar[Level] = Level.TORCH

    def apply(self, program: Program, note: Note) -> Program:
        given, module = self._load(program, note)
        return self.simplify(module, given)

    def save(self, program: Program, stem: Path) -> list[Path]:
        return ToBackendContract.save(self, program, stem)


@dataclass(frozen=True)
class ReadStableHLO(ReadMlir):
    """Read StableHLO. Ops of CHLO that MHLO lacks are expanded; all else stays as it is."""

    source: ClassVar[Level] = Level.MODEL
    target: ClassVar[Level] = Level.STABLEHLO

    def apply(self, program: Program, note: Note) -> Program:
        given, module = self._load(program, note)
        if names := chlo_ops.list_expanded(module):
            assert given.signature is not None
            if problems := chlo_ops.expand(module, given.signature):
                raise Unsupported(problems, mlir.text(module))
            note("chlo_expanded", "became plain ops of StableHLO, whose result is the reference of `verify`", ", ".join(names))
        return given.replace_ir(self.target, module)


@dataclass(frozen=True)
class ReadMHLO(ReadMlir):
    """Read MHLO, as it is."""

    source: ClassVar[Level] = Level.MODEL
    target: ClassVar[Level] = Level.MHLO


def describe_symbols(model: Model) -> SymbolRecord:
    """Return the record of the declared dims, all of which the types of the entry's arguments have."""
    sizes = model.examples()
    requested = []
    for name, declared in model.leaves.items():
        for position, dim in enumerate(declared.dims()):
            if isinstance(dim, Affine):
                promised, step = convert_promise(dim, model)
                is_symbol = dim == Affine(dim.symbol)
                requested.append(Requested(
                    dim_id(name, position), name, position, str(dim), promised, step, dim.at(sizes), None,
                    "dynamic" if is_symbol else "derived", str(dim), related=() if is_symbol else (dim.symbol,), why="as declared"))
    return SymbolRecord(model.name, tuple(requested))
