"""Comparison of a model's programs with eager, on any inputs."""

from __future__ import annotations

import functools
import time
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import torch
from torch.utils.weak import WeakIdKeyDictionary

from lowering import types
from lowering.eager import inputs
from lowering.errors import LoadError, Problem, Refused, ShapelineError, StageFailed, Unsupported
from lowering.level import Program
from lowering.model import Built, Model, Tolerance
from lowering.numerics import comparison
from lowering.numerics.comparison import Comparison
from lowering.numerics.coverage import special_values
from lowering.numerics.coverage.conditions import Conditions
from lowering.numerics.coverage.corners import Sizes
from lowering.numerics.coverage.space import Point, Space
from lowering.numerics.judging import distribution
from lowering.numerics.judging.ancestry import Making
from lowering.numerics.judging.arbitration import Arbiter
from lowering.numerics.judging.perturbed import find_halves
from lowering.numerics.judging.ties import Picks
from lowering.numerics.judging.vectors import Owned, Vectors
from lowering.numerics.reference import Reference
from lowering.numerics.running.integers import Replaying
from lowering.numerics.running.runner import Eager, LevelRun, Run, Tensors, make_runner
from lowering.numerics.running.xla import Xla
from lowering.numerics.verification import LevelCheck
from lowering.signature import Signature

Results: TypeAlias = tuple[torch.Tensor, ...]

_DRAWN_SECONDS = 0.1  # of one eager run, up to which random results are drawn often enough to compare their distributions
EXAMINED_SECONDS = 0.1  # of one eager run, up to which it is perturbed to see how far rounding takes results
_LEVEL_SEED = 7919  # levels draw other numbers than eager
_UNTIED = 8  # sets of inputs drawn in search of one without equal elements


@dataclass
class Bench:
    """A model, its signature and XLA's devices, ready to compare programs with eager at any sizes. makings: see `ancestry`.

    makes_integers: whether the program converts floats to integers, whose steps are judged apart (see `integers`).
    """

    built: Built
    signature: Signature
    platforms: Sequence[str] = ("cpu",)
    makings: tuple[Making, ...] = ()
    noted: list[tuple[str, str, str]] = field(default_factory=list)  # code, place, message
    conditions: Conditions = field(default_factory=Conditions)
    makes_integers: bool = False

    def __post_init__(self) -> None:
        self.model: Model = self.built.model
        self.eager = Eager(self.model, self.built.module, self.signature)
        self.results = self.signature.returned
        self.makings = self.makings or (Making(),) * len(self.results)
        self.space = replace(Space.build(self.model, self.signature), conditions=self.conditions)
        self.devices = {platform: Xla(platform) for platform in self.platforms}
        self.arbiter = Arbiter(self.eager, self.makings, self.note)
        self.halves = find_halves(self.results, self.makings)
        self.is_random = any(making.is_random for making in self.makings)
        self._tolerances: MutableMapping[torch.Tensor, dict[Making, Tolerance]] = WeakIdKeyDictionary()  # by the results of eager
        self._ran: tuple[Tensors, tuple[torch.Tensor, ...], float] | None = None  # inputs, what eager computed, and its CPU seconds
        self._watched: tuple[Tensors, Picks, tuple[torch.Tensor, ...]] | None = None  # inputs, what eager picked, its results
        self._vectors: tuple[Tensors, Owned] | None = None  # inputs, and the vectors among eager's results

    def note(self, code: str, place: str, message: str) -> None:
        self.noted.append((code, place, message))

    def inputs(self, sizes: Sizes, seed: int) -> dict[str, torch.Tensor]:
        """Make the inputs that the graph takes at `sizes`."""
        return inputs.make(self.model, self.space.arguments(sizes), seed)

    def seconds(self, sizes: Sizes) -> float:
        """Measure the CPU seconds of one eager run at `sizes`."""
        given = self.inputs(sizes, self.model.seed)
        start = time.process_time()
        self.eager(given)
        return time.process_time() - start

    def run_eager(self, given: Tensors) -> tuple[tuple[torch.Tensor, ...], float]:
        """Return eager's results on inputs, and its CPU seconds. The last results are kept for the same inputs (the same object)."""
        if self._ran is None or self._ran[0] is not given or self.is_random:
            start = time.process_time()  # not of other processes, which must not decide what is examined
            want = self.eager(given)
            self._ran = given, want, time.process_time() - start
        return self._ran[1:]

    def reference(self, point: Point, given: Tensors, twice: bool, seed: int = 0) -> Reference:
        """Run eager. Raises LoadError if a second run differs in a result that does not depend on random numbers."""
        want, seconds = self.run_eager(given)
        if twice:
            for result, making, first, again in zip(self.results, self.makings, want, self.eager(given), strict=True):
                compared = self.compare(again, first, making)
                if not compared.agrees and not making.is_random:
                    cause = f"eager disagrees with itself in '{result.name}' at {point}: {compared.detail}"
                    fix = "a model to verify must be deterministic but for PyTorch's random ops: eval mode, no uninitialized memory"
                    raise LoadError(Problem(f"models.{self.model.name}", cause, fix))
        count = distribution.RUNS if seconds < _DRAWN_SECONDS else 1
        return Reference(want, seconds, distribution.draw_runs(self.eager, given, count, seed) if self.is_random else ())

    def compare(self, got: torch.Tensor, want: torch.Tensor, making: Making) -> Comparison:
        if want not in self._tolerances:  # the same for all levels
            self._tolerances[want] = {}
        known = self._tolerances[want]
        if making not in known:
            known[making] = comparison.find_tolerance(want.dtype, self.model.tolerances, want, making.narrowest)
        tolerance = known[making]
        held_to = types.dtype_name(comparison.choose_deciding(want.dtype, making.narrowest))
        return replace(comparison.compare(got, want, tolerance), held_to=held_to)

    def check(self, run: Run, given: Tensors, reference: Reference, retry: bool = True) -> LevelCheck:
        """Compare one program with eager on one set of inputs. float64 decides where floating values differ.

        Indices of equal elements are compared by what they pick. Other results of a model that met equal elements are compared again on
        inputs without any, random ones that differ are drawn again, both if `retry`.
        """
        start = time.perf_counter()
        try:
            taken = self.select_inputs(given)
            got = run(taken)
            runs = distribution.draw_runs(run, taken, len(reference.runs), _LEVEL_SEED + retry) if reference.runs else ()
        except Refused as error:
            return LevelCheck(time.perf_counter() - start, failure=str(error), refused=True, log=error.log)
        except ShapelineError as error:
            unsupported = isinstance(error, Unsupported)
            return LevelCheck(time.perf_counter() - start, failure=str(error), unsupported=unsupported, log=error.log)
        seconds = time.perf_counter() - start
        compared = []
        for index, (one, other, making) in enumerate(zip(got, reference.want, self.makings, strict=True)):
            if making.is_random:
                tolerance = comparison.find_tolerance(other.dtype, self.model.tolerances, other, making.narrowest)
                found = distribution.compare([each[index] for each in runs], [each[index] for each in reference.runs], tolerance)
            else:
                found = self.compare(one, other, making)
                if found.wrong == "values" and not other.is_floating_point() and not other.is_complex() and other.dtype is not torch.bool:
                    found = self._accept_picks(index, found, given, one, other)
            compared.append(found)
        judged = self._turn(compared, given, got, runs, reference)
        compared = [judged.get(index, found) for index, found in enumerate(compared)]
        fixed = [index for index, making in enumerate(self.makings) if not making.is_random and index not in judged]
        want = reference.want
        if self.makes_integers and isinstance(run, LevelRun) and any(compared[index].wrong == "values" for index in fixed):
            got, want, compared = self._replay(run, given, compared)
        settled = self.arbiter.settle(compared, given, got, want, fixed)
        if reference.seconds < EXAMINED_SECONDS and not self.makes_integers:  # a step of an integer is no small error
            examined = [index for index in fixed if reference.is_close or index in self.halves]
            settled = self.arbiter.examine(settled, given, got, want, examined)
        checked = LevelCheck(seconds, dict(zip((result.label for result in self.results), settled, strict=True)))
        return self._retry(run, given, reference, checked) if retry and not checked.agrees else checked

    def _replay(self, run: LevelRun, given: Tensors, compared: Sequence[Comparison]) -> tuple[Results, Results, list[Comparison]]:
        """Run a level again, and eager from the integers that the level makes of floats. Return both results, and how they compare."""
        got, found = run.run_with_integers(self.select_inputs(given))
        narrowest = functools.reduce(Making.join, self.makings).narrowest
        replaying = Replaying(found, self.model.tolerances, narrowest)
        with replaying:
            want = self.eager(given)
        lacking = f"; not found in the program: {', '.join(dict.fromkeys(replaying.unmatched))}" if replaying.unmatched else ""
        says = f"from the {replaying.moved} of {replaying.count} integers on that ties round to the other side{lacking}"
        self.arbiter.hold(replaying)
        settled = []
        for before, result, making, one, other in zip(compared, self.results, self.makings, got, want, strict=True):
            again = before if making.is_random or before.wrong != "values" else self.compare(one, other, making)
            if replaying.moved and before.wrong and again.agrees:
                self.note("verify_integers", result.name, f"differs from eager, and agrees {says}: {before.detail}")
                settled.append(replace(before, wrong=None))  # the record says how far it is from eager
            else:
                is_told = replaying.count and again.wrong and again is not before
                settled.append(replace(again, detail=f"{again.detail}; {says}") if is_told else again)
        return got, want, settled

    def _accept_picks(self, index: int, found: Comparison, given: Tensors, got: torch.Tensor, want: torch.Tensor) -> Comparison:
        """Accept results that pick other elements than eager does if these have the same values."""
        picks, results = self._watch(given)
        picked = picks.find(results[index])
        if picked is None or (ours := picked.positions(got)) is None or (theirs := picked.positions(want)) is None:
            return found
        values = picked.source.reshape(-1)
        if ours.unique().numel() != theirs.unique().numel() or not self.compare(values[ours], values[theirs], self.makings[index]).agrees:
            return found
        self.note("verify_ties", self.results[index].name, f"picks other elements than eager, of the same values: {found.detail}")
        return replace(found, wrong=None)

    def _turn(self, compared: Sequence[Comparison], given: Tensors, got: Results, runs: Sequence[Results],
              reference: Reference) -> dict[int, Comparison]:
        """Compare differing results that consist of eigenvectors or singular vectors again, turned to eager's (see `vectors`).

        Neither float64 nor perturbed runs judge them: their vectors may have other signs.
        """
        differing = [index for index, found in enumerate(compared) if found.wrong == "values" and got[index].dtype.is_floating_point]
        if not differing or (vectors := self.vectors(given)) is None:
            return {}
        judged = {}
        turned = vectors.turn(got, reference.want)
        ours, theirs = ([vectors.turn(run, reference.runs[0]) for run in each] for each in (runs, reference.runs))
        for index in differing:
            if vectors.owners[index] is None:
                continue
            want, making = reference.want[index], self.makings[index]
            if making.is_random:
                tolerance = comparison.find_tolerance(want.dtype, self.model.tolerances, want, making.narrowest)
                found = distribution.compare([run[index] for run in ours], [run[index] for run in theirs], tolerance)
            else:
                found = self.compare(turned[index], want, making)
            if found.agrees:
                says = "vectors of another sign, or turned into others of the same value, than eager's"
                self.note("verify_signs", self.results[index].name, f"{says}: {compared[index].detail}")
            judged[index] = found
        return judged

    @property
    def has_vectors(self) -> bool:
        """Whether a comparison has found eigenvectors or singular vectors among the results."""
        return self._vectors is not None and bool(self._vectors[1].groups)

    def vectors(self, given: Tensors) -> Owned | None:
        """Return which results on these inputs are eigenvectors or singular vectors, or None if no result of the model ever is one."""
        if self._vectors and self._vectors[1].groups is None:
            return None
        if self._vectors is None or self._vectors[0] is not given:
            with Vectors() as watching:
                results = self.eager(given)
            self._vectors = given, watching.find_owners(results)
        return self._vectors[1] if self._vectors[1].groups else None

    def save_vectors(self, given: Tensors) -> Mapping[str, torch.Tensor]:
        """Return the vectors among eager's results as tensors by name, empty if no comparison has asked for any."""
        owned = self.vectors(given) if self._vectors else None
        return owned.to_tensors([result.label for result in self.results]) if owned else {}

    def _retry(self, run: Run, given: Tensors, reference: Reference, checked: LevelCheck) -> LevelCheck:
        if any(making.is_random and not found.agrees for making, found in zip(self.makings, checked.outputs.values(), strict=True)):
            again = Reference(reference.want, reference.seconds,
                              distribution.draw_runs(self.eager, given, len(reference.runs), _LEVEL_SEED + 2))
            return self.check(run, given, again, retry=False)
        wrong = {found.wrong for found in checked.outputs.values() if not found.agrees}
        if wrong - {"values", "non-finite"} or not self._watch(given)[0].ties:  # what is picked may be masked by infinities
            return checked
        # inputs without NaN and infinities were compared already
        if not all(bool(torch.isfinite(value).all()) for value in given.values()):
            return checked if "non-finite" in wrong else self._mark_undecided(
                checked, "differs from eager where elements that it orders or picks, NaN among them, are equal: not decided")
        for attempt in range(_UNTIED):
            other = special_values.distinct(self.model, given, attempt)
            with Picks() as picks:
                want = self.eager(other)
            if not picks.finite_ties:
                untied = self.check(run, other, Reference(want), retry=False)
                if untied.agrees:
                    says = "differs from eager where elements that it orders or picks are equal, and agrees on inputs without equal ones"
                    self._mark_undecided(checked, says)
                return untied
        says = "elements that it orders or picks are equal, and no inputs without equal ones were found"
        return replace(checked, outputs={name: found if found.agrees else replace(found, detail=f"{found.detail}; {says}")
                                         for name, found in checked.outputs.items()})

    def _mark_undecided(self, checked: LevelCheck, says: str) -> LevelCheck:
        """Return `checked` with the differences accepted and noted."""
        for name, found in checked.outputs.items():
            if not found.agrees:
                self.note("verify_ties", name, f"{says}: {found.detail}")
        return replace(checked, outputs={name: replace(found, wrong=None) for name, found in checked.outputs.items()})

    def _watch(self, given: Tensors) -> tuple[Picks, tuple[torch.Tensor, ...]]:
        """Record the elements that eager picks on these inputs, and its results."""
        if self._watched is None or self._watched[0] is not given:
            with Picks() as picks:
                results = self.eager(given)
            self._watched = given, picks, results
        return self._watched[1], self._watched[2]

    def build_run(self, form: Program, device: Xla) -> LevelRun | None:
        """Return a function that runs `form`, or None, with a note, if IREE does not take it."""
        try:
            return make_runner(form, device)
        except StageFailed as error:
            self.noted.append(("level_not_run", form.level.word, "; ".join(map(str, error.problems))))
            return None

    def select_inputs(self, given: Tensors) -> dict[str, torch.Tensor]:
        names = {argument.name for argument in self.signature.inputs}
        return {name: value for name, value in given.items() if name in names}
