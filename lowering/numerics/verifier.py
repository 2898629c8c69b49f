"""Compare the levels of a program with eager at shape points over its ranges, and find the first level that differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TypeAlias

import torch

from lowering.eager.mlir_module import MlirModule
from lowering.errors import ShapelineError
from lowering.ir import mlir
from lowering.level import Level, Program
from lowering.model import Built
from lowering.numerics import blame, comparison, takeover, unsuited
from lowering.numerics.bench import Bench
from lowering.numerics.coverage import data_limits, relations, special_values, weight_values
from lowering.numerics.coverage.conditions import Conditions
from lowering.numerics.coverage.data_limits import Limits
from lowering.numerics.coverage.points import OFF_MULTIPLES, Budget, are_all, choose_points, find_declined, list_untried
from lowering.numerics.coverage.space import Point, Space
from lowering.numerics.judging.ancestry import converts, trace_results
from lowering.numerics.reference import Reference
from lowering.numerics.remembered import References
from lowering.numerics.running import compilation, counted
from lowering.numerics.running.compilation import Effort
from lowering.numerics.running.runner import LevelRun, Tensors
from lowering.numerics.running.xla import Xla
from lowering.numerics.verification import LevelCheck, PointCheck, Verification
from lowering.store.digests import compute_digest

_FULL = ("all",)  # every element is selected: the most that a capacity may meet
_LOOPED_SECONDS = 0.1  # of one eager run, up to which a program with loops is compiled in the shortest time: its code is 10 times slower
_HLO = (Level.STABLEHLO, Level.MHLO)
_JUDGED_HALVES = 4  # times shorter that one eager run may take where halves are judged, by up to 8 runs with rounding
_DRAWS = 8  # sets of inputs drawn in search of one that the conditions on data admit

_Kept: TypeAlias = tuple[Point, Tensors, tuple[torch.Tensor, ...]]  # a point, its inputs, and eager's results


@dataclass(frozen=True)
class Settings:
    """The kind and number of comparisons. The fields are those of the stage `Verify`."""

    points: int = 5
    levels: Sequence[Level] = (Level.TORCHSCRIPT, Level.MHLO)
    platforms: Sequence[str] = ("cpu",)
    budget: Budget = field(default_factory=Budget)
    seed: int = 0
    keep_elements: int = 1 << 18
    values: Sequence[str] = special_values.SETS


def verify(program: Program, settings: Settings) -> tuple[Verification, Bench]:
    """Compare levels of `program` with eager at shape points, and break each of its declared relations alone.

    At one of the points it is run again on each set of special values. Results are data; LoadError says that the model itself fails inside
    its ranges. `program` descends from a MODEL program that is `Built`.
    """
    top, exported = program.at(Level.MODEL), program.at(Level.EXPORTED)
    assert top is not None and isinstance(top.ir, Built) and program.signature is not None
    text = mlir.text(program.ir, elide=None) if program.level in _HLO else ""
    bench = Bench(top.ir, program.signature, settings.platforms, trace_results(exported.ir, program.signature) if exported else (),
                  conditions=Conditions.read(text, program.signature) if text else Conditions(),
                  makes_integers=exported is not None and converts(exported.ir))
    budget = replace(settings.budget, seconds=settings.budget.seconds / (_JUDGED_HALVES if bench.halves else 1))
    chosen = choose_points(bench.space, settings.points, budget, settings.seed, partial(takeover.measure, bench))
    references = References(bench, settings.keep_elements, settings.seed)
    trial = _Trial(bench, dict(_list_runs(program, settings.levels, bench)), exported, references)
    checks, kept = _compare_points(trial, chosen, settings, text)
    states_own_ranges = isinstance(top.ir.module, MlirModule) and top.ir.module.level is not Level.TORCH
    answers = relations.read_answers(program, text, bench.space) if text and not states_own_ranges else relations.Answers()
    return Verification(
        tuple(checks), answers, trial.blame, asdict(budget), tuple(kept), tuple(find_declined(bench.space, settings.seed)),
        tuple(trial.special), trial.left_out, (*list_untried(bench.space, chosen), *trial.list_untried()), are_all(bench.space, chosen),
        tuple(result.label for result, making in zip(bench.results, bench.makings, strict=True) if making.is_random),
        comparison.list_weakened(bench.model.tolerances), tuple(bench.save_vectors(given) for _, given, _ in kept), trial.taken,
        trial.fixed_weights,
    ), bench


def _compare_points(trial: _Trial, chosen: Sequence[Point], settings: Settings, text: str) -> tuple[list[PointCheck], list[_Kept]]:
    """Compare all levels at all points, and at some of them again on special values. Return also the small points' values.

    One point alone is compiled with XLA's own passes and fusions, another one alone runs the special values and the closer comparison.
    """
    bench = trial.bench
    varied, largest = _find_cheapest(bench.space, chosen), _find_largest(bench.space, chosen)
    usual = next((point for point in chosen if point.kind == OFF_MULTIPLES), largest)
    checks: list[PointCheck] = []
    kept: list[_Kept] = []
    for index, point in enumerate(chosen):
        given = _draw_admitted(trial, point, _choose_seed(bench.model.seed, point.sizes))
        reference = replace(trial.references.compute(point, given, {}, twice=index == 0), is_close=point is varied)
        effort: Effort = "full" if is_long_loop(text, reference) else "unoptimized" if point is usual else "quick"
        checks.append(trial.compare(point, given, reference, effort, may_lose_nan=point is not varied))
        if sum(value.numel() for value in given.values()) + reference.elements <= settings.keep_elements:
            kept.append((point, given, tuple(reference.want)))
        if point is varied:
            trial.compare_special(point, given, settings.values, effort)
        elif point is largest and settings.values and trial.checks_data:
            trial.compare_special(point, given, _FULL, effort)
    return checks, kept


@dataclass
class _Trial:
    """The levels of a program under comparison, by label. blame: the first wrong level, found at the first point that failed.

    special, left_out: the comparisons on special values, and the sets of values that were left out, with the reason.
    weights: values of weights, by name, in place of the module's own. taken: levels that do not refuse values that another level does, with
    its reason. fixed_weights: see `weight_values.Varied`. full: counts that were equal to their capacities. limits: those on data.
    """

    bench: Bench
    runs: Mapping[str, tuple[LevelRun, Program, Xla]]
    exported: Program | None
    references: References
    blame: str = ""
    special: list[PointCheck] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    weights: Tensors = field(default_factory=dict)
    taken: dict[str, str] = field(default_factory=dict)
    fixed_weights: dict[str, str] = field(default_factory=dict)
    full: set[str] = field(default_factory=set)
    limits: Limits = field(default_factory=Limits)

    @contextmanager
    def hold(self, weights: Tensors) -> Iterator[None]:
        """Run eager and all levels with other values of weights for the block."""
        if not weights:
            yield
            return
        with weight_values.hold(self.bench.built.module, weights):
            self.weights = weights
            try:
                yield
            finally:
                self.weights = {}

    def compare(self, point: Point, given: Tensors, reference: Reference, effort: Effort,
                may_lose_nan: bool = False) -> PointCheck:
        """Compare every level at one point.

        effort: of compilations; levels that differ after less than the full one are compiled and compared again. may_lose_nan: see `Xla`.
        """
        self._note_full(reference, point)
        data = takeover.Data(self.bench, given, reference, self.weights)
        found = {label: self._check(run, device, data, effort, may_lose_nan) for label, (run, _, device) in self.runs.items()}
        wrong = next((label for label, level in found.items() if not level.agrees), None)
        if wrong and not self.blame:
            self.bench.reference(point, given, twice=True)
            self.blame = blame.find_first_wrong(self.bench, self.runs[wrong][1], given, reference, self.runs[wrong][2], self.weights)
        return PointCheck(point, reference.seconds, found)

    def _note_full(self, reference: Reference, point: Point) -> None:
        """Add the counts that are equal to their capacities in the results of eager."""
        if self.bench.signature.computed != self.bench.signature.returned:
            self.full |= counted.find_full(self.bench.signature, reference.want, point.sizes)

    def compare_special(self, point: Point, given: Tensors, words: Sequence[str], effort: Effort) -> None:
        """Compare every level at one point again, on each set of special values: of the inputs `given`, or of weights."""
        for word, changed, weights in _vary(self, words, given, point.sizes):
            with self.hold(weights):
                is_known = self.references.knows(changed, weights)
                if reason := unsuited.explain(word, self.bench, self.exported, changed, is_known) or self.find_refused_data(changed):
                    self.left_out[word if words != _FULL else f"{word} at {point}"] = reason
                    continue
                at = replace(point, note=", ".join(filter(None, (point.note, f"{word} values"))))
                self.special.append(self.compare(at, changed, self.references.compute(at, changed, weights), effort))

    def find_refused_data(self, given: Tensors) -> str:
        """Return the condition of the run on data by which a level refuses these values; empty if every level takes them.

        Levels that do not refuse what another one does are kept in `taken`.
        """
        if not self.checks_data:
            return ""
        refused, taken = {}, []
        for label, (run, _, _) in self.runs.items():
            try:
                replace(run, weights=self.weights)(self.bench.select_inputs(given))
            except counted.RefusedData as error:
                refused[label] = str(error)
                continue
            except ShapelineError:
                pass  # if no level refuses the values, the comparison reports it
            taken.append(label)
        for label, reason in list(refused.items())[:1]:
            self.taken.update(dict.fromkeys(taken, f"{label}: {reason}"))
            return f"{label} refuses the values: {reason}"
        return ""

    def list_untried(self) -> list[str]:
        """Return the classes of data that no inputs belong to."""
        counts = [result.name for result in self.bench.signature.computed if result.kind == "count" and result.name not in self.full]
        return [*(f"{name} = its capacity" for name in counts), *self.limits.list_unreached()]

    @property
    def checks_data(self) -> bool:
        """Whether the program has conditions on the values of its arguments."""
        return any(result.kind == "check" for result in self.bench.signature.results)

    def _check(self, run: LevelRun, device: Xla, data: takeover.Data, effort: Effort, may_lose_nan: bool) -> LevelCheck:
        run = replace(run, weights=self.weights)

        def compare() -> LevelCheck:
            checked = self.bench.check(run, data.given, data.reference)
            if not checked.agrees and effort != "full" and not checked.refused:
                device.effort, device.may_lose_nan = "full", False
                checked = self.bench.check(run, data.given, data.reference)
            return checked

        device.effort, device.may_lose_nan = effort, effort == "quick" and may_lose_nan
        rank = compilation.rank(device.effort, device.may_lose_nan) if run.form.level in _HLO else 0
        try:
            return takeover.check(data, run, rank, compare)
        finally:
            device.effort, device.may_lose_nan = "full", False


def is_long_loop(text: str, reference: Reference) -> bool:
    """Return whether a program, as text, has loops that run so long that they are worth XLA's default options."""
    return "hlo.while" in text and reference.seconds > _LOOPED_SECONDS


def _vary(trial: _Trial, words: Sequence[str], given: Tensors, sizes: Mapping[str, int]) -> Iterator[tuple[str, Tensors, Tensors]]:
    """Iterate over the sets of special values: the word of each, all inputs, and the weights that have other values."""
    if not words:
        return
    bench = trial.bench
    data = special_values.DATA_SETS if words != _FULL and counted.decides_sizes(bench.eager, given) else ()
    for word, changed in special_values.list_sets(bench.model, given, (*words, *data)):
        yield word, changed, {}
    if words == _FULL:
        capacities = {counted.evaluate_capacity(result.value, sizes) for result in bench.signature.computed if result.kind == "count"}
        for count in sorted(filter(None, capacities)):
            yield f"{count} selected", special_values.select(bench.model, given, count), {}
    elif trial.exported is not None and data_limits.has_limits(trial.exported):
        for number, scaled in enumerate(data_limits.approach(bench.eager, bench.model, given, trial.limits)):
            yield f"limit {number}", scaled, {}
    if weight_values.WORD in words and bench.model.weights == "random":  # those of a checkpoint may be mapped from it
        varied = weight_values.vary(bench.built.module, [form for _, form, _ in trial.runs.values()])
        trial.fixed_weights.update(varied.fixed)
        if varied.values:
            yield weight_values.WORD, dict(given), varied.values  # what is known of `given` holds for its own weights


def _draw_admitted(trial: _Trial, point: Point, seed: int) -> Tensors:
    """Return inputs whose values the program takes, drawn again if it refuses them: then a warning says so."""
    for attempt in range(_DRAWS):
        given = trial.bench.inputs(point.sizes, seed + 7919 * attempt)
        reason = trial.find_refused_data(given)
        if not reason:
            break
        trial.bench.note("data_refused", str(point), reason)
    return given


def _choose_seed(seed: int, sizes: Mapping[str, int]) -> int:
    """Return the seed of the inputs at a point, which depends on its sizes alone: jobs that share a point share its inputs."""
    return seed + int(compute_digest(dict(sizes))[:7], 16)


def _find_cheapest(space: Space, chosen: Sequence[Point]) -> Point | None:
    """Return a point with few elements among those whose sizes are all 2 or more, or the last point if there is none.

    Of those with at most four times the fewest elements, the one with the smallest sizes is taken: jobs that differ in a maximum share it.
    """
    wide = [point for point in chosen if min(point.sizes.values(), default=2) >= 2]
    most = 4 * min((space.elements(point.sizes) for point in wide), default=0)
    few = [point for point in wide if space.elements(point.sizes) <= most]
    return min(few, key=lambda point: sum(point.sizes.values())) if few else chosen[-1] if chosen else None


def _find_largest(space: Space, chosen: Sequence[Point]) -> Point | None:
    """Return the point with the most elements."""
    return max(chosen, key=lambda point: space.elements(point.sizes), default=None)


def _list_runs(program: Program, levels: Sequence[Level], bench: Bench) -> Iterator[tuple[str, tuple[LevelRun, Program, Xla]]]:
    """Return a run for each level that the program went through, by label. HLO levels have one per platform."""
    for level in levels:
        form = program.at(level)
        if form is None:
            continue
        for platform in bench.platforms if level in _HLO else bench.platforms[:1]:
            label = level.word if platform == bench.platforms[0] else f"{level.word} on {platform}"
            if run := bench.build_run(form, bench.devices[platform]):
                yield label, (run, form, bench.devices[platform])
