"""One op sample through the stages to MHLO, run there at shapes other than the traced ones, and compared with eager."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import torch

from benchmarks.op_samples import Sample
from lowering.eager.module import run_eager
from lowering.errors import LoadError, ShapelineError, StageFailed, Unsupported
from lowering.level import Level, Program
from lowering.model import Built
from lowering.numerics.bench import Bench
from lowering.numerics.judging import distribution
from lowering.numerics.judging.ancestry import trace_results
from lowering.numerics.reference import Reference
from lowering.numerics.running import counted, runner
from lowering.record.failure import classify
from lowering.signature import Signature
from lowering.sizes import evaluation
from lowering.stage import Silent
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from lowering.stages.verify import is_sized_by_data

STAGES = {"torchscript": ToTorchScript(), "torch": ToTorchDialect(), "stablehlo": ToStableHLO(), "mhlo": ToMHLO()}

# not_exported: torch.export itself refuses; static: it makes every dim static; not_compared: MHLO, but eager has no numbers to compare with
OUTCOMES = ("ok", "not_compared", "unsupported", "mismatch", "error", "crash", "timeout", "not_exported", "static", "load_error",
            "no_sample")

_POINTS = 2
_DECLARED = 64  # the capacity of a size without a bound of its own
_DRAWN = 40
# Ops whose results are whatever the memory holds.
UNINITIALIZED = ("empty", "empty_like", "empty_permuted", "empty_strided", "new_empty", "new_empty_strided")


@dataclass(frozen=True)
class Trial:
    """The progress of one sample. stage: the last that began (`verify` after mhlo); dynamic, static: the dims that stayed, and became ints.

    problems: the full inventory; points: the shape points compared; seconds: of the whole trial. capacity: how a trial ends with
    `data_sizes=capacity`, of one that is refused while data decide a size of it.
    """

    op: str
    dtype: str
    outcome: str
    stage: str
    sample: str = ""
    dynamic: tuple[str, ...] = ()
    static: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()
    points: tuple[str, ...] = ()
    seconds: float = 0.0
    capacity: str = ""

    @property
    def reached(self) -> bool:
        """Whether it reached MHLO."""
        return self.stage == "verify"

    @property
    def counts(self) -> bool:
        """Whether torch.export accepts it with a dynamic dim."""
        return self.outcome not in ("not_exported", "static", "load_error", "no_sample")

    @property
    def tells(self) -> bool:
        """Whether it decides on a program: it fails at a level, or its results at another shape are compared."""
        return self.counts and not (self.outcome == "not_compared" and not self.points)


@dataclass
class _Progress:
    """The progress of a trial, for any exception that it raises; `tell` is called with each stage before it begins."""

    tell: Callable[[str], None]
    stage: str = ""
    dynamic: tuple[str, ...] = ()
    static: tuple[str, ...] = ()
    points: list[str] = field(default_factory=list)

    def begin(self, stage: str) -> None:
        self.stage = stage
        self.tell(stage)


def attempt(sample: Sample, tell: Callable[[str], None] = lambda stage: None) -> Trial:
    """Try one sample. Any exception of the op becomes a trial. `tell` is called with each stage before it begins."""
    trial = _attempt(sample, tell, Export(explain=False))
    is_refused = trial.outcome in ("unsupported", "not_exported")
    if not is_refused or not counted.decides_sizes(lambda given: sample.module(**given), sample.tensors):
        return trial
    padded = _attempt(sample, tell, Export(explain=False, data_sizes="capacity"))
    if any("no known bound" in problem for problem in padded.problems):
        bounded = replace(sample)
        object.__setattr__(bounded, "model", replace(sample.model, capacities={f"u{number}": _DECLARED for number in range(16)}))
        padded = _attempt(bounded, tell, Export(explain=False, data_sizes="capacity"))
    return replace(trial, capacity=padded.outcome if padded.reached else f"{padded.outcome} ({padded.stage})")


def _attempt(sample: Sample, tell: Callable[[str], None], export: Export) -> Trial:
    start, progress = time.perf_counter(), _Progress(tell)
    progress.begin("export")
    trial = Trial(sample.op, sample.dtype, "ok", "", str(sample))
    try:
        outcome, problems = _lower(sample, progress, export)
    except Exception as error:  # noqa: BLE001 - an op may raise anything, and that is data
        outcome, found = classify(error)
        problems = tuple(map(str, found))
        if progress.stage == "export" and isinstance(error, StageFailed | Unsupported) and error.__cause__ is not None:
            outcome = "not_exported"  # the stage chains what torch.export raised
    return replace(trial, outcome=outcome, stage=progress.stage, problems=tuple(text[:600] for text in problems), dynamic=progress.dynamic,
                   static=progress.static, points=tuple(progress.points), seconds=time.perf_counter() - start)  # fmt: skip


def _lower(sample: Sample, progress: _Progress, export: Export) -> tuple[str, tuple[str, ...]]:
    built = Built(sample.model, sample.module)
    run_eager(sample.module, sample.model, {name: value.clone() for name, value in sample.tensors.items()})
    program = export.export(built, sample.tensors, Silent())
    assert program.signature is not None
    progress.dynamic, progress.static = _dims(sample, program.signature)
    if not progress.dynamic:
        return "static", ()
    for name, stage in STAGES.items():
        progress.begin(name)
        if refusals := tuple(stage.requires(program)):
            raise Unsupported(refusals)
        program = stage.apply(program, Silent())
        if broken := tuple(stage.ensures(program)):
            return "error", tuple(map(str, broken))
    progress.begin("verify")
    return _verify(sample, built, program, progress)


def _dims(sample: Sample, signature: Signature) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return (`x0[0]=batch` for each dim that stayed dynamic, `x0[1]=5` for each that was requested and became an int)."""
    dynamic, static = [], []
    held = {argument.name: argument.dims for argument in signature.inputs}
    for name, declared in sample.model.inputs.items():
        for position, dim in enumerate(held.get(name, ())):
            if declared.shape[position] is None:
                (dynamic if isinstance(dim, str) else static).append(f"{name}[{position}]={dim}")
    return tuple(dynamic), tuple(static)


def _verify(sample: Sample, built: Built, program: Program, progress: _Progress) -> tuple[str, tuple[str, ...]]:
    """Return ok if every point agrees with eager, random numbers in their distribution."""
    exported = program.at(Level.EXPORTED)
    assert program.signature is not None and exported is not None
    bench = Bench(built, program.signature, makings=trace_results(exported.ir, program.signature))
    device = bench.devices["cpu"]
    run = runner.make_runner(program, device)
    is_made = sample.op not in UNINITIALIZED
    why_not = "no other shape lies within the guards"
    for point, given in _points(sample, program.signature):
        try:
            want = bench.eager(given)
        except LoadError as error:
            why_not = f"eager fails at other shapes: {error}"
            continue
        reference = Reference(want, runs=distribution.draw_runs(bench.eager, given, distribution.RUNS, 0) if bench.is_random else ())
        for device.effort in ("quick", "full"):  # as the verifier does: what differs is compiled again in XLA's usual way
            found = bench.check(run, given, reference)
            if found.agrees or found.refused:
                break
        text = evaluation.text(point)
        if found.failure:
            return "unsupported" if found.unsupported and is_sized_by_data(program) else "error", (f"at {text}: {found.failure}",)
        wrong = [f"{name} at {text}: {compared.detail}" for name, compared in found.outputs.items()
                 if not compared.agrees and (compared.wrong in ("dtype", "shape") or is_made)]
        if wrong:
            return "mismatch", tuple(wrong)
        progress.points.append(text)
        if len(progress.points) == _POINTS:
            break
    if not progress.points:
        return "not_compared", (why_not,)
    return ("ok", ()) if is_made else ("not_compared", ("uninitialized: shapes and dtypes agree",))


def _points(sample: Sample, signature: Signature) -> Iterator[tuple[Mapping[str, int], dict[str, torch.Tensor]]]:
    """Yield sizes of every symbol, other than the traced ones, that the program's guards admit, with the tensors at them."""
    traced = {f"{name}_{position}": size for name, tensor in sample.tensors.items() for position, size in enumerate(tensor.shape)}
    traced = {name: traced[name] for name in signature.symbols if name in traced}
    for point in _candidates(traced):
        try:
            if point != traced and all(evaluation.evaluate(guard, point)
                                       for guard in signature.guards if evaluation.symbols_in(guard) <= set(point)):
                shapes = {argument.name: evaluation.shape_at(argument.dims, point) for argument in signature.inputs}
                yield point, sample.at(shapes)
        except (evaluation.Unknown, SyntaxError, ShapelineError):
            continue


def _candidates(traced: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """Yield shapes with all symbols changed, then with drawn ones only: where sizes constrain each other, not all can grow."""
    for factor, shift, step in ((2, 0, 0), (1, 1, 1), (3, 0, 0), (1, 1, 0), (1, 2, 0), (4, 0, 0), (1, 4, 0), (2, -1, 0)):
        yield {name: factor * size + shift + step * index for index, (name, size) in enumerate(traced.items())}
    draw = random.Random(0)
    for _ in range(_DRAWN if len(traced) > 1 else 0):
        yield {name: draw.choice((1, 1, 2, 3)) * size + draw.choice((0, 0, 1)) for name, size in traced.items()}
