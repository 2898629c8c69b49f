"""MHLO -> MHLO: what the program computes, compared with eager across its ranges; the program itself passes through unchanged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import torch

from lowering import files
from lowering.custom import bridge
from lowering.eager.mlir_module import MlirModule
from lowering.errors import Mismatch, Problem, ShapelineError, StageFailed, Unsupported
from lowering.fx import cleanup
from lowering.ir import mlir
from lowering.level import Level, Program
from lowering.model import Built
from lowering.numerics import choices, consumers, float_distance, ranks, source_reference, verifier, warned
from lowering.numerics.bench import Bench
from lowering.numerics.consumers import Compared, Pair
from lowering.numerics.coverage import special_values
from lowering.numerics.coverage.points import Budget
from lowering.numerics.delivery import generation, promises
from lowering.numerics.running import tensor_files, xla
from lowering.numerics.verification import Verification
from lowering.plain import to_plain
from lowering.record.result import describe_changes
from lowering.stage import Note, Report, Stage
from lowering.store import weights


@dataclass(frozen=True)
class Verified(Program):
    """A program that was compared with eager, and what came of it."""

    verification: Verification | None = None


@dataclass(frozen=True)
class Verify(Stage):
    """Run the levels at shape points over the ranges, and compare with the module's own results.

    In place of a program without weights, its twin is verified.

    points: how many at least (lower corner, upper corner, one off every multiple, mixed ones; more when the upper corner is capped).
    levels: what to run, `LEVEL` or `LEVEL:CONSUMER` (see `consumers`); platforms: where XLA runs, as far as they are here.
    consumer_points: how many of the points, the cheapest, IREE and the reference interpreter run. interpreted_products: the most products
        of elements that the interpreter computes at a point.
    budget_elements: the most elements of inputs and results, by which the upper corner is capped.
    budget_seconds: the same of the CPU time of one eager run. seed: of the inputs.
    threads: torch's while it runs here (spinning threads of jobs side by side cost more than they give).
    keep_elements: points up to that many elements are kept with inputs and results, for `shapeline exec`.
    steps: how many steps of an entry `after` another run together with it, after prompts of several lengths (0: none).
    values: sets of special values that one point is run on again: `edges` (equal elements, ends of ranges, zeros), `non-finite`.
    """

    source: ClassVar[Level] = Level.MHLO
    target: ClassVar[Level] = Level.MHLO
    least: ClassVar[Mapping[str, float]] = {
        "points": 1, "threads": 1, "consumer_points": 1, "interpreted_products": 1, "budget_elements": 1, "budget_seconds": 0,
        "keep_elements": 0, "steps": 0,
    }
    takes_twin: ClassVar[bool] = True

    points: int = 5
    levels: Sequence[consumers.Word] = ("torchscript", "mhlo")
    platforms: Sequence[choices.Platform] = ("cpu", "gpu")
    budget_elements: int = Budget.elements
    budget_seconds: float = Budget.seconds
    threads: int = 1
    keep_elements: int = 1 << 18
    seed: int = 0
    values: Sequence[special_values.SetName] = special_values.SETS
    consumer_points: int = 2
    interpreted_products: int = 1 << 24
    steps: int = 8

    def requires(self, program: Program) -> Sequence[Problem]:
        top = program.at(Level.MODEL)
        found = consumers.list_problems(self.levels)
        pairs = [pair for word in self.levels if (pair := Pair.read(word))]
        if pairs and all(pair.missing for pair in pairs):
            found.append(Problem("stages.verify.levels", "none of the consumers is installed", pairs[0].missing))
        found += [Problem("stages.verify.platforms", f"'{word}' is none of XLA's", f"one of {', '.join(choices.PLATFORMS)}")
                  for word in self.platforms if word not in choices.PLATFORMS]
        found += [Problem(f"stages.verify.{name}", f"is {getattr(self, name)}", f"{least:g} or more")
                  for name, least in self.least.items() if not getattr(self, name) >= least]
        found += [Problem("stages.verify.values", f"'{word}' is no set of values", f"one of {', '.join(special_values.SETS)}")
                  for word in self.values if word not in special_values.SETS]
        if top is None or not isinstance(top.ir, Built) or program.signature is None:
            fix = "enter the pipeline at the model, or drop this stage"
            found.append(Problem("verify", "there is no eager module to compare with", fix))
        return found

    def apply(self, program: Program, note: Note) -> Program:
        """Verify `program` and return it with the verification.

        Raises Mismatch (wrong numbers, or sizes wrongly refused or accepted), StageFailed (it did not run), LoadError, and Unsupported
        (XLA cannot run such a program).
        """
        if weights.list_fakes(program.weights):
            return self._verify_twin(program, note)
        exchanged = ranks.find_collectives(program.ir)
        if exchanged and (obstacle := ranks.find_obstacle(program)):
            cause = f"the program runs on several devices ({', '.join(exchanged)}), so no level was run and no number compared: {obstacle}"
            note("collectives_not_run", cause, program.model.name if program.model else "")
            return program
        here = [platform for platform in self.platforms if platform in xla.list_platforms()]
        if (unreached := set(here) - set(bridge.PLATFORMS)) and bridge.list_calls(program.ir):
            note("custom_ops_not_run", f"custom ops are executed on {', '.join(bridge.PLATFORMS)}, not on {', '.join(unreached)}")
            here = [platform for platform in here if platform not in unreached]
        if not here:
            raise StageFailed(Problem("stages.verify.platforms", f"none of {', '.join(self.platforms)} is on this machine"))
        pairs = list(dict.fromkeys(pair for word in self.levels if (pair := Pair.read(word))))
        if (module := self._find_source(program)) is not None and not (pairs := self._choose_pairs(module, program, pairs, note)):
            return program
        if exchanged:
            pairs = self._choose_devices(program, pairs, note)
        levels = [] if exchanged else [pair.level for pair in pairs if pair.is_default]
        with _set_threads(self.threads):
            settings = verifier.Settings(self.points, levels, here, Budget(self.budget_elements, self.budget_seconds), self.seed,
                                         self.keep_elements, self.values)
            found, bench = verifier.verify(program, settings)
            if exchanged:
                found = ranks.compare(program, found, bench)
            matrix = self._compare_consumers(program, pairs, found, bench)
            walks = list(generation.check(program, bench, self.steps)) if self.steps and bench.model.after and not found.mismatches else []
            quantization = float_distance.describe(program, bench.model, found.kept)
        note.report("verify", found.to_json() | {"consumers": [to_plain(compared.cell) for compared in matrix],
                                                 "steps": [walk.to_json() for walk in walks]}
                    | ({"quantization": quantization} if quantization else {}))
        for code, place, message in dict.fromkeys(bench.noted):
            note(code, message, place)
        warned.note_gaps(found, self.points, note)
        for compared in matrix:
            warned.note_consumer(compared.cell, note)
        warned.note_levels(program, levels, note)
        warned.note_ranges(program, bench.model, module, note)
        if self.steps and bench.model.after and (why := generation.find_obstacle(bench.model)):
            note("steps_not_run", why, bench.model.place)
        log = "\n".join(level.log for check in found.checks for level in check.levels.values() if level.log)
        mismatches = found.mismatches + promises.find_broken(program) + [problem for compared in matrix for problem in compared.problems]
        if mismatches := mismatches + [problem for walk in walks for problem in walk.problems]:
            raise Mismatch(mismatches, log)
        if found.unsupported and is_sized_by_data(program):
            raise Unsupported(found.unsupported, log)
        if found.failures:
            raise StageFailed(found.failures, log)
        if not found.points:
            guards = "; ".join(dict.fromkeys(guard for _, guard in found.declined))
            cause = "the program's own guards decline every size inside the declared ranges that was tried, so nothing was compared"
            raise StageFailed(Problem("stages.verify.points", f"{cause}: {guards}", "narrow the ranges to sizes that the guards take"))
        held = {field.name: getattr(program, field.name) for field in fields(Program)}
        return Verified(**held, verification=found)

    def _choose_devices(self, program: Program, pairs: Sequence[Pair], note: Note) -> list[Pair]:
        """Return the pair that runs on several devices, and note that, and the pairs that do not."""
        devices = ranks.list_ranks(program.ir)
        note("verified_on_devices", f"each of {len(devices)} devices of XLA was compared with its rank of {len(set(devices))} processes of "
             "torch.distributed", program.model.name if program.model else "")
        whole = Pair(Level.MHLO, consumers.XLA)
        if others := [str(pair) for pair in pairs if pair != whole]:
            note("collectives_not_run", "one device alone cannot run the program, so nothing was compared there", ", ".join(others))
        return [whole]

    def _find_source(self, program: Program) -> MlirModule | None:
        """Return the module of a program that starts as MLIR, and has no eager."""
        top = program.at(Level.MODEL)
        return top.ir.module if top is not None and isinstance(top.ir.module, MlirModule) else None

    def _choose_pairs(self, module: MlirModule, program: Program, pairs: Sequence[Pair], note: Note) -> list[Pair]:
        """Let a consumer compute the reference, and return the pairs that can differ from it; without any, nothing is verified."""
        reference = source_reference.connect(module, program)
        if reference is None:
            note("source_not_run", "no consumer runs the source or a level below, so no number was compared", module.path)
            return []
        if reference.pair.level is not module.level:
            note("source_not_run", f"the {module.level.word} level was not run, so the lowering from it to {reference.pair.level.word} is "
                 f"not verified; the reference is {reference.pair}: {reference.why}", module.path)
        else:
            note("source_reference", f"there is no eager module: the reference is the source, run as {reference.pair}", module.path)
        chosen = [pair for pair in pairs if reference.tests(pair)]
        if not chosen:
            note("source_unverified", f"no level below {reference.pair} is in stages.verify.levels, so no number was compared", module.path)
        return chosen

    def _verify_twin(self, program: Program, note: Note) -> Program:
        """Verify the twin of a program without weights, whose record says so. Without a twin, warn that nothing is compared."""
        twin = program.twin
        if twin is None or twin.program is None:
            reason = twin.reason if twin else ""
            note("weights_faked", "the weights are fake, so no level was run and no number compared" + (f"; {reason}" if reason else ""))
            return program if twin is None else replace(program, twin=None)
        changes = describe_changes(twin.changes)
        try:
            found = self.apply(twin.program, _TwinNote(note, twin.changes))
        except ShapelineError as error:
            raise type(error)([replace(one, place=f"the twin ({changes}): {one.place}") for one in error.problems], error.log) from error
        if not isinstance(found, Verified) or found.verification is None:  # a warning of the twin says why nothing was compared
            return replace(program, twin=None)
        note("verified_on_twin", f"the model has no weights; a small twin of it was lowered and compared, with {changes}",
             f"models.{program.model.name}.twin" if program.model else "")
        held = {field.name: getattr(program, field.name) for field in fields(Program)} | {"twin": None}
        return Verified(**held, verification=replace(found.verification, kept=()))  # its inputs do not fit the program

    def _compare_consumers(self, program: Program, pairs: Sequence[Pair], found: Verification, bench: Bench) -> list[Compared]:
        """Return what came of each pair: of the levels verified already, and of the other consumers at some of the points."""
        chosen = consumers.choose_points([check.point for check in found.points], bench, self.consumer_points)
        return [Compared(consumers.summarize(pair, [check.levels for check in found.checks])) if pair.is_default
                else consumers.compare(program, pair, bench, chosen, self.interpreted_products) for pair in pairs]

    def save(self, program: Program, stem: Path) -> list[Path]:
        """Write the points with their errors (`.json`), and inputs and eager results of the small ones (`.safetensors`)."""
        if not isinstance(program, Verified):
            return []
        assert program.verification is not None and program.signature is not None
        record, results = stem.with_name(stem.name + ".json"), stem.with_name(stem.name + ".safetensors")
        tensors: dict[str, torch.Tensor] = {}
        for number, (_, given, want) in enumerate(program.verification.kept):
            tensors |= {f"{number}/input/{name}": value for name, value in given.items()}
            produced = zip(program.signature.returned, want, strict=True)
            tensors |= {f"{number}/eager/{result.label}": value for result, value in produced}
        for number, vectors in enumerate(program.verification.vectors):
            tensors |= {f"{number}/vectors/{name}": value for name, value in vectors.items()}
        points = [{"kind": point.kind, "sizes": dict(point.sizes)} for point, _, _ in program.verification.kept]
        files.write(record, program.verification.to_json() | {"kept": points})
        tensor_files.write(tensors, results)
        return [record, results]

    def ops(self, program: Program) -> dict[str, int]:
        return mlir.count_ops(program.ir)


@dataclass(frozen=True)
class _TwinNote:
    """Log what is said of a twin as said of the model, with the changes of its config in the report."""

    note: Note
    changes: Mapping[str, Any]

    def __call__(self, code: str, message: str, place: str = "") -> None:
        self.note(code, f"of the twin: {message}", place)

    def report(self, key: Report, data: Any) -> None:
        self.note.report(key, {**data, "twin": dict(self.changes)})

    def file(self, suffix: str, data: bytes) -> None:
        self.note.file(suffix, data)


def is_sized_by_data(program: Program) -> bool:
    """Return whether a size depends on the values of tensors."""
    exported = program.at(Level.EXPORTED)
    return exported is not None and cleanup.has_data_dependent_sizes(exported.ir.graph_module)


@contextmanager
def _set_threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
