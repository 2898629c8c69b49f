"""Whether the levels of a program compute what eager does, at shape points over its ranges, and which is the first that does not."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch

from lowering.eager import inputs
from lowering.errors import LoadError, Problem, Refused, ShapelineError, StageFailed, Unsupported
from lowering.ir import mlir
from lowering.level import Level, Program
from lowering.model import Built, Model
from lowering.numerics import comparison, xla
from lowering.numerics.comparison import Comparison
from lowering.numerics.points import Point, Sizes, Space, declined, outside, points
from lowering.numerics.runner import Eager, Run, Tensors, label_of, results_of, runner, runs_here
from lowering.numerics.verification import LevelCheck, PointCheck, Verification
from lowering.numerics.xla import Xla
from lowering.signature import Signature


@dataclass
class Bench:
    """A model, its signature and XLA's devices, ready to compare programs with eager at any sizes."""

    built: Built
    signature: Signature
    platforms: Sequence[str] = ("cpu",)
    noted: list[tuple[str, str, str]] = field(default_factory=list)  # code, place, message

    def __post_init__(self) -> None:
        self.model: Model = self.built.model
        self.eager = Eager(self.model, self.built.module, self.signature)
        self.space = Space.of(self.model, self.signature)
        self.devices = {platform: Xla(platform) for platform in self.platforms}
        self._near: tuple[Tensors, list[dict[str, torch.Tensor]]] = ({}, [])  # inputs, and gradients near them

    def inputs(self, sizes: Sizes, seed: int) -> dict[str, torch.Tensor]:
        """Inputs of the signature (those that the graph takes) at `sizes`."""
        return inputs.make(self.model, self.space.arguments(sizes), seed)

    def seconds(self, sizes: Sizes) -> float:
        """CPU seconds of one eager run at `sizes`, the better of two: what else the machine does must not choose the points."""
        given, taken = self.inputs(sizes, self.model.seed), []
        for _ in range(2):
            start = time.process_time()
            self.eager(given)
            taken.append(time.process_time() - start)
        return min(taken)

    def reference(self, point: Point, given: Tensors, twice: bool) -> tuple[tuple[torch.Tensor, ...], float]:
        """What eager computes, and its seconds; LoadError when a second run disagrees with the first."""
        start = time.perf_counter()
        want = self.eager(given)
        seconds = time.perf_counter() - start
        if twice:
            for result, first, again in zip(results_of(self.signature), want, self.eager(given), strict=True):
                compared = self.compared(again, first)
                if not compared.agrees:
                    cause = f"eager disagrees with itself in '{result.name}' at {point}: {compared.detail}"
                    fix = "a model to verify must be deterministic: eval mode, no random ops"
                    raise LoadError(Problem(f"models.{self.model.name}", cause, fix))
        return want, seconds

    def compared(self, got: torch.Tensor, want: torch.Tensor) -> Comparison:
        return comparison.compare(got, want, comparison.tolerance_of(want.dtype, self.model.tolerances, want))

    def check(self, run: Run, given: Tensors, want: Sequence[torch.Tensor]) -> LevelCheck:
        """One program at one point against eager's results; float64 decides where floating values differ."""
        start = time.perf_counter()
        try:
            got = run(self.taken(given))
        except Refused as error:
            return LevelCheck(time.perf_counter() - start, failure=str(error), refused=True, log=error.log)
        except ShapelineError as error:
            unsupported = isinstance(error, Unsupported)
            return LevelCheck(time.perf_counter() - start, failure=str(error), unsupported=unsupported, log=error.log)
        seconds = time.perf_counter() - start
        compared = [self.compared(one, other) for one, other in zip(got, want, strict=True)]
        if any(self._debatable(found, other) for found, other in zip(compared, want, strict=True)):
            compared = self._arbitrated(compared, given, got, want)
        return LevelCheck(seconds, dict(zip(map(label_of, results_of(self.signature)), compared, strict=True)))

    def run_of(self, form: Program, device: Xla) -> Run | None:
        """How to run `form`; None, and a note, when IREE does not take it."""
        try:
            return runner(form, device)
        except StageFailed as error:
            self.noted.append(("level_not_run", form.level.word, "; ".join(map(str, error.problems))))
            return None

    def taken(self, given: Tensors) -> dict[str, torch.Tensor]:
        names = {argument.name for argument in self.signature.inputs}
        return {name: value for name, value in given.items() if name in names}

    def _debatable(self, compared: Comparison, want: torch.Tensor) -> bool:
        return compared.wrong == "values" and (want.is_floating_point() or want.is_complex())

    def _arbitrated(self, compared: list[Comparison], given: Tensors, got: Sequence[torch.Tensor],
                    want: Sequence[torch.Tensor]) -> list[Comparison]:
        """Comparisons in which results as near to a float64 run as eager's own are accepted, and the others say that float64 was asked."""
        try:
            reference = self.eager.double()(given)
        except (LoadError, RuntimeError) as error:
            return [replace(found, detail=f"{found.detail}; no float64 reference: {str(error).splitlines()[0]}") if found.wrong else found
                    for found in compared]
        settled = []
        for found, one, other, exact, result in zip(compared, got, want, reference, results_of(self.signature), strict=True):
            if self._debatable(found, other) and exact.shape == other.shape:
                if comparison.nearer(one, other, exact):
                    message = f"differs from eager, but not more from float64 than eager does: {found.detail}"
                    self.noted.append(("verify_arbitrated", result.name, message))
                    found = replace(found, wrong=None)
                elif result.kind == "gradient" and any(comparison.nearer(one, near, other) for near in self._nearby(given, result.name)):
                    message = f"differs from eager, but not more than eager's own where weights are off by their rounding: {found.detail}"
                    self.noted.append(("gradient_ill_conditioned", result.name, message))
                    found = replace(found, wrong=None)
                else:
                    found = replace(found, detail=f"{found.detail}; float64 sides with eager")
            settled.append(found)
        return settled

    def _nearby(self, given: Tensors, name: str) -> list[torch.Tensor]:
        """A gradient as eager gives it with weights off by their rounding: one activation that crosses zero changes what lies below it."""
        if self._near[0] is not given:
            labels = [label_of(result) for result in results_of(self.signature)]
            self._near = given, [dict(zip(labels, self.eager.nearby(seed)(given), strict=True)) for seed in range(4)]
        return [results[name] for results in self._near[1]]

    def bisect(self, program: Program, given: Tensors, want: Sequence[torch.Tensor], device: Xla) -> str:
        """Which form of `program`, from the top of the ladder down, is the first that is wrong on `given` and `device`, in words."""
        agrees, skipped = "eager", []
        for form in ladder(program):
            if not runs_here(form.level) or not (run := self.run_of(form, device)):
                skipped.append(form.level.word)
                continue
            found = self.check(run, given, want)
            if not found.agrees:
                unrun = f" ({', '.join(dict.fromkeys(skipped))} not run)" if skipped else ""
                return f"first wrong level: {form.level.word}; {agrees} is right{unrun}"
            agrees, skipped = form.level.word, []
        return "no level is wrong when run again"


def ladder(program: Program) -> list[Program]:
    """Every form that `program` went through below the model, first to last."""
    forms: list[Program] = []
    form: Program | None = program
    while form is not None:
        if form.level is not Level.MODEL and (not forms or forms[0].ir is not form.ir):
            forms.insert(0, form)
        form = form.above
    return forms


def verify(program: Program, count: int = 4, levels: Sequence[Level] = (Level.TORCHSCRIPT, Level.MHLO),
           platforms: Sequence[str] = ("cpu",), budget_elements: int = 1 << 22, budget_seconds: float = 0.5, seed: int = 0,
           keep_elements: int = 1 << 18) -> tuple[Verification, Bench]:
    """Compare `levels` of `program` with eager at `count` or more points, and ask it to refuse sizes outside its ranges.

    Results are data; LoadError says that the model itself fails inside its ranges. `program` descends from a MODEL program that is `Built`.
    """
    top = program.at(Level.MODEL)
    assert top is not None and isinstance(top.ir, Built) and program.signature is not None
    bench = Bench(top.ir, program.signature, platforms)
    runs = dict(_runs(program, levels, bench))
    checks, kept, blame = [], [], ""
    chosen = points(bench.space, count, budget_elements, seed, bench.seconds, budget_seconds)
    for index, point in enumerate(chosen):
        given = bench.inputs(point.sizes, bench.model.seed + index)
        want, seconds = bench.reference(point, given, twice=index == 0)
        found = {label: bench.check(run, given, want) for label, (run, _, _) in runs.items()}
        wrong = next((label for label, level in found.items() if not level.agrees), None)
        if wrong and not blame:
            bench.reference(point, given, twice=True)
            blame = bench.bisect(runs[wrong][1], given, want, runs[wrong][2])
        checks.append(PointCheck(point, seconds, found))
        if sum(value.numel() for value in (*given.values(), *want)) <= keep_elements:
            kept.append((point, given, want))
    refused, accepted = refusals(program, bench) if program.level in (Level.STABLEHLO, Level.MHLO) else ((), ())
    budget = {"elements": budget_elements, "seconds": budget_seconds}
    return Verification(tuple(checks), refused, accepted, blame, budget, tuple(kept), tuple(declined(bench.space, seed))), bench


def refusals(program: Program, bench: Bench) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(declined with which words, taken) of the sizes just outside the ranges; both empty when the program carries no assertion."""
    if not carries_assertions(program):
        return (), ()
    assert program.signature is not None
    text = mlir.text(program.ir, elide=None)
    refused, accepted = [], []
    for why, sizes in outside(bench.space):
        given = inputs.shapes(bench.model, bench.space.arguments(sizes))
        shapes = [
            (program.weights[argument.name].dtype, tuple(program.weights[argument.name].shape)) if argument.kind != "input"
            else (getattr(torch, argument.dtype), given[argument.name])
            for argument in program.signature.arguments
        ]
        known = {position: sizes[argument.value] for position, argument in enumerate(program.signature.arguments) if argument.value is not None}
        try:
            xla.refine(text, shapes, known)
        except ShapelineError as error:
            refused.append("; ".join(problem.cause for problem in error.problems))
        else:
            accepted.append(why)
    return tuple(refused), tuple(accepted)


def carries_assertions(program: Program) -> bool:
    """Whether an HLO program holds a shape_assertion."""
    calls = (operation for operation in mlir.operations(program.ir) if operation.name.endswith(".custom_call"))
    return any("shape_assertion" in str(operation.attributes["call_target_name"]) for operation in calls)


def _runs(program: Program, levels: Sequence[Level], bench: Bench) -> Iterator[tuple[str, tuple[Run, Program, Xla]]]:
    """For each level that the program went through its run, by label; HLO levels once a platform."""
    for level in levels:
        form = program.at(level)
        if form is None:
            continue
        for platform in bench.platforms if level in (Level.STABLEHLO, Level.MHLO) else bench.platforms[:1]:
            label = level.word if platform == bench.platforms[0] else f"{level.word} on {platform}"
            if run := bench.run_of(form, bench.devices[platform]):
                yield label, (run, form, bench.devices[platform])
