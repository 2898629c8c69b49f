"""MHLO -> MHLO: write the files that are needed to run the program elsewhere (signature, portable StableHLO, weights, buckets).

The IR is unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import ClassVar

from lowering.errors import Problem
from lowering.ir import mlir, portable
from lowering.level import Level, Program
from lowering.model import Built
from lowering.numerics.bench import Bench
from lowering.numerics.delivery import bucket_check, buckets, delivered, packaging
from lowering.numerics.delivery.buckets import Dispatch
from lowering.numerics.judging.ancestry import trace_results
from lowering.numerics.running import xla
from lowering.numerics.running.static_modules import StaticModule
from lowering.plain import to_plain
from lowering.stage import Note, Read, Stage
from lowering.store import weights


@dataclass(frozen=True)
class Packaged(Program):
    """A program with its buckets, if the model declares some."""

    dispatch: Dispatch | None = None
    modules: tuple[StaticModule, ...] = ()


@dataclass(frozen=True)
class Package(Stage):
    """Write the artifact that `shapeline exec` runs, and a static program for each of the model's buckets.

    Weights are stored once, by digest, in the store beside `runs`, or in the job's folder if there is none.

    keep_weights: if false, the artifact contains no weights, and can be read but not run.
    compare: run each bucket on XLA at its own sizes, and padded from smaller ones, and compare with eager.
    target_version: the StableHLO version of the portable artifacts, for readers as old as that: `1.13.7`, or `WEEK_4`, `WEEK_12` (what
        readers of that age take), `MAX` (the oldest), `NONE` (the newest).
    entry: the name of the entry function in the portable artifacts.
    """

    source: ClassVar[Level] = Level.MHLO
    target: ClassVar[Level] = Level.MHLO

    keep_weights: bool = True
    compare: bool = True
    target_version: str = "WEEK_4"
    entry: str = "main"

    def requires(self, program: Program) -> Sequence[Problem]:
        signature, model = program.signature, program.model
        if signature is not None and model is not None and model.buckets and signature.returned != signature.computed:
            return [Problem("buckets", "pad inputs, and the counts of this program would count the padding", "remove buckets, or "
                            "stages.export.data_sizes")]
        top = program.at(Level.MODEL)
        if program.signature is None or top is None or not isinstance(top.ir, Built):
            return [Problem("package", "the program was not lowered from a model, so its inputs are unknown", "remove this stage")]
        try:
            portable.read_version(self.target_version)
        except ValueError as error:
            return [Problem("stages.package.target_version", str(error))]
        if not re.fullmatch(r"[A-Za-z_][\w.$]*", self.entry):
            return [Problem("stages.package.entry", f"{self.entry!r} is not the name of a function", "use letters, digits, _ . $")]
        return []

    def apply(self, program: Program, note: Note) -> Program:
        """Make the buckets. Raises Unsupported, StageFailed, and Mismatch where one differs from eager at its own sizes."""
        fakes = weights.list_fakes(program.weights)
        if self.keep_weights and fakes:
            note("weights_faked", "the weights are fake, so the artifact contains none and cannot be run")
        top = program.at(Level.MODEL)
        assert top is not None and program.signature is not None
        model = top.ir.model
        if not model.buckets:
            return program
        modules = buckets.make_all(program, model, self.target_version, self.entry)
        dispatch = Dispatch.build(model, program.signature, [buckets.describe(module) for module in modules])
        if self.compare and not fakes:
            dispatch = _compare(program, dispatch, modules, note)
        note.report("buckets", [to_plain(bucket) for bucket in dispatch.buckets])
        held = {field.name: getattr(program, field.name) for field in fields(Program)}
        return Packaged(**held, dispatch=dispatch, modules=tuple(modules))

    def reads(self) -> frozenset[Read]:
        return frozenset({"model", "weights"})

    def save(self, program: Program, stem: Path) -> list[Path]:
        """Write signature.json and program.stablehlo to the job's folder, and run them and the job's `.pt` at a point that verify recorded.

        Raises Unsupported, StageFailed, InfraError, and Mismatch where a file does not give eager's results.
        """
        keep = self.keep_weights and not weights.list_fakes(program.weights)
        saved = packaging.save(program, stem.parent, packaging.locate_store(stem.parent) if keep else None, self.target_version, self.entry)
        if keep:
            delivered.check(stem.parent)
        if isinstance(program, Packaged) and program.dispatch is not None:
            return saved + buckets.save(stem.parent, program.dispatch, program.modules)
        (stem.parent / buckets.FILE).unlink(missing_ok=True)  # of an earlier attempt
        return saved

    def ops(self, program: Program) -> dict[str, int]:
        return mlir.count_ops(program.ir)


def _compare(program: Program, dispatch: Dispatch, modules: Sequence[StaticModule], note: Note) -> Dispatch:
    """Return the buckets with the symbols that each does not pad, which are noted with their causes."""
    top, exported = program.at(Level.MODEL), program.at(Level.EXPORTED)
    assert top is not None and program.signature is not None
    platform = xla.list_platforms()[0]
    bench = Bench(top.ir, program.signature, (platform,), trace_results(exported.ir, program.signature) if exported else ())
    device = bench.devices[platform]
    device.hold(program.weights)
    by_sizes = {tuple(module.sizes.items()): module for module in modules}
    found = []
    for bucket in dispatch.buckets:
        module = by_sizes[tuple(bucket.sizes.items())]
        executable = bucket_check.Executable.compile(dispatch, bucket, module, program.signature, program.weights, device)
        checked, problems = bucket_check.check(bench, executable)
        for problem in problems:
            note("bucket_not_padded", f"{problem.cause} ({problem.fix})" if problem.fix else problem.cause, problem.place)
        found.append(checked)
    return replace(dispatch, buckets=tuple(found))
