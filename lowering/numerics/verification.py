"""Result of a comparison of levels with eager, point by point, as data and as problems in the user's words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from lowering.errors import Problem
from lowering.numerics.comparison import Comparison
from lowering.numerics.coverage.relations import Answers
from lowering.numerics.coverage.space import Point


@dataclass(frozen=True)
class LevelCheck:
    """One level at one point. failure: why it gave no results; refused: whether the program itself declined these sizes.

    unsupported: whether the consumer cannot run such a program. maker: the job (`run/job`) of an earlier comparison of an equal
    program with an equal reference on equal inputs, which was taken over.
    """

    seconds: float
    outputs: Mapping[str, Comparison] = field(default_factory=dict)
    failure: str = ""
    refused: bool = False
    unsupported: bool = False
    log: str = ""
    maker: str = ""

    @property
    def agrees(self) -> bool:
        return not self.failure and all(compared.agrees for compared in self.outputs.values())


@dataclass(frozen=True)
class PointCheck:
    """All levels at one point, by label (`torchscript`, `mhlo`, `mhlo on gpu`); seconds: of one eager run."""

    point: Point
    seconds: float
    levels: Mapping[str, LevelCheck]


@dataclass(frozen=True, repr=False)
class Verification:
    """The comparisons of a verification. answers: those of the program to sizes that it has to refuse.

    declined: sizes inside the declared ranges that a guard of the program itself declines, with the guard; nothing is compared there.
    blame: the first wrong level, found at the first point that failed; kept: inputs and eager results of the points small enough.
    special: a point again on special values (equal elements, ends of ranges; NaN and infinities); left_out: kinds of them that were not
    run, and why. not_tried: classes of sizes (see `corners`) that no point has; is_exhaustive: whether the points are all sizes there are.
    random: results that descend from random numbers. weakened: dtypes whose tolerance is larger than the default, with the reason.
    taken: levels that do not refuse values that another one refuses by a condition on data, with that condition.
    vectors: which results of each kept point are vectors whose signs are open, as tensors by name (see `vectors.Owned`).
    fixed_weights: weights of equal elements that kept their values, with the reason: a program may drop them unnoticed.
    """

    points: tuple[PointCheck, ...]
    answers: Answers = field(default_factory=Answers)
    blame: str = ""
    budget: Mapping[str, float] = field(default_factory=dict)
    kept: tuple[tuple[Point, Mapping[str, torch.Tensor], tuple[torch.Tensor, ...]], ...] = ()
    declined: tuple[tuple[Point, str], ...] = ()
    special: tuple[PointCheck, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    not_tried: tuple[str, ...] = ()
    is_exhaustive: bool = False
    random: tuple[str, ...] = ()
    weakened: Mapping[str, str] = field(default_factory=dict)
    vectors: tuple[Mapping[str, torch.Tensor], ...] = ()
    taken: Mapping[str, str] = field(default_factory=dict)
    fixed_weights: Mapping[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Return the verdict, a line for each kind of check."""
        agreeing = sum(all(level.agrees for level in check.levels.values()) for check in self.checks)
        lines = [f"{agreeing} of {len(self.checks)} points agree; largest difference {self.max_abs:.3g}, relative {self.max_rel:.3g}"]
        lines += [f"  compared at {check.point}" for check in self.checks]
        lines += [f"  refused: {said}" for said in self.answers.refused]
        lines += [f"  declined by a guard: {point}: {guard}" for point, guard in self.declined]
        lines += [f"  not tried: {sizes}" for sizes in self.not_tried]
        lines += [f"  not varied: {name}: {reason}" for name, reason in self.fixed_weights.items()]
        return "\n".join(lines + [str(problem) for problem in self.mismatches])

    @property
    def checks(self) -> tuple[PointCheck, ...]:
        return self.points + self.special

    def comparisons(self) -> Iterator[Comparison]:
        return (compared for check in self.points for level in check.levels.values() for compared in level.outputs.values())

    @property
    def uncompared(self) -> list[str]:
        """Results of which no level had an element to compare at any point: all are NaN or infinite in eager, or there are none."""
        found: dict[str, int] = {}
        for check in self.checks:
            for level in check.levels.values():
                for name, compared in level.outputs.items():
                    found[name] = max(found.get(name, 0), compared.finite)
        return [name for name, finite in found.items() if finite == 0]

    @property
    def max_abs(self) -> float:
        return max((compared.max_abs for compared in self.comparisons()), default=0.0)

    @property
    def max_rel(self) -> float:
        return max((compared.max_rel for compared in self.comparisons()), default=0.0)

    @property
    def mismatches(self) -> list[Problem]:
        """Wrong results, sizes inside the ranges that were refused, and sizes outside that were taken."""
        found = []
        for check in self.checks:
            for label, level in check.levels.items():
                at = f"{label} at {check.point}"
                found += [Problem(f"output '{name}' of {at}", compared.detail, self.blame)
                          for name, compared in level.outputs.items() if not compared.agrees]
                if level.refused:
                    found.append(Problem(at, f"refuses sizes inside its ranges: {level.failure}", self.blame))
        found += [Problem(label, f"does not refuse values as another level does: {why}", "conditions on data must be those of every level")
                  for label, why in self.taken.items()]
        fix = "its assertions do not cover this range"
        return found + [Problem("program", f"takes sizes outside its ranges: {why}", fix) for why in self.answers.accepted]

    @property
    def failures(self) -> list[Problem]:
        """Levels that could not be run."""
        return [Problem(f"{label} at {check.point}", level.failure, self.blame) for check in self.checks
                for label, level in check.levels.items() if level.failure and not level.refused]

    @property
    def unsupported(self) -> list[Problem]:
        """Levels that their consumer cannot run, each once, at its first point; empty when any failed for another reason."""
        found = {label: Problem(f"{label} at {check.point}", level.failure, "until=mhlo leaves this stage out")
                 for check in reversed(self.checks)
                 for label, level in check.levels.items() if level.unsupported}
        others = any(level.failure and not level.unsupported for check in self.checks for level in check.levels.values())
        return [] if others else list(found.values())

    def to_json(self) -> dict[str, Any]:
        """Return the `verify` block of the record: every point with its sizes, levels and errors, and the largest errors of all."""
        return {
            "points": list(map(_describe_point, self.points)), "special": list(map(_describe_point, self.special)),
            "left_out": dict(self.left_out), "fixed_weights": dict(self.fixed_weights),
            "not_tried": list(self.not_tried), "random": list(self.random), "uncompared": self.uncompared, "weakened": dict(self.weakened),
            "max_abs": self.max_abs, "max_rel": self.max_rel,
            "declined": [{"kind": point.kind, "sizes": dict(point.sizes), "guard": guard} for point, guard in self.declined],
            "refused": list(self.answers.refused), "accepted": list(self.answers.accepted), "undecided": list(self.answers.undecided),
             "blame": self.blame, "budget": dict(self.budget),
        }  # fmt: skip


def _describe_point(check: PointCheck) -> dict[str, Any]:
    return {"kind": check.point.kind, "sizes": dict(check.point.sizes), "note": check.point.note, "eager_seconds": check.seconds,
            "levels": {label: _describe_level(level) for label, level in check.levels.items()}}


def _describe_level(level: LevelCheck) -> dict[str, Any]:
    taken = {"maker": level.maker} if level.maker else {}
    return {"seconds": level.seconds, "failure": level.failure, **taken, "outputs": {
        name: {"elements": compared.elements, "max_abs": compared.max_abs, "max_rel": compared.max_rel, "wrong": compared.wrong,
               "detail": compared.detail, "held_to": compared.held_to, "finite": compared.finite}
        for name, compared in level.outputs.items()
    }}  # fmt: skip
