"""Consumers of levels: each pair of a level and a consumer that runs it is compared with eager, and the pairs make a matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lowering.errors import Problem, ShapelineError
from lowering.level import Level, Program
from lowering.numerics.bench import Bench
from lowering.numerics.coverage.space import Point
from lowering.numerics.running import iree, libtorch
from lowering.numerics.running.bodies import Body, find_known_ints, restore_numbers
from lowering.numerics.running.reference_interpreter import ReferenceInterpreter
from lowering.numerics.running.runner import LevelRun, expand_types, make_runner
from lowering.numerics.running.xla import Xla
from lowering.numerics.verification import LevelCheck

XLA, IREE, INTERPRETER, TORCH, LIBTORCH = "xla", "iree", "interpreter", "torch", "libtorch"

# Those that take each level; the first one is meant where only the level is named.
TAKERS: Mapping[Level, tuple[str, ...]] = {
    Level.EXPORTED: (TORCH,), Level.TORCHSCRIPT: (TORCH, LIBTORCH), Level.TORCH: (IREE,), Level.STABLEHLO: (XLA, INTERPRETER, IREE),
    Level.MHLO: (XLA,),
}  # fmt: skip
WORDS = tuple(f"{level.word}:{consumer}" for level, takers in TAKERS.items() for consumer in takers)
Word = Literal["exported", "torchscript", "torch", "stablehlo", "mhlo", "exported:torch", "torchscript:torch", "torchscript:libtorch",
               "torch:iree", "stablehlo:xla", "stablehlo:interpreter", "stablehlo:iree", "mhlo:xla"]  # `validate` reads the literal


@dataclass(frozen=True)
class Pair:
    """A level and the consumer that runs it. Written `stablehlo:iree`, or `stablehlo` for the level's first consumer."""

    level: Level
    consumer: str

    @staticmethod
    def read(text: str) -> Pair | None:
        """Return the pair that `text` names; None if there is no such pair."""
        word, colon, consumer = text.partition(":")
        level = next((level for level in TAKERS if level.word == word), None)
        if level is None or (colon and consumer not in TAKERS[level]):
            return None
        return Pair(level, consumer or TAKERS[level][0])

    @property
    def is_default(self) -> bool:
        """Whether every verification runs it, as a part of the lowering: its failure is the job's."""
        return self.consumer in (XLA, TORCH)

    @property
    def missing(self) -> str:
        """The command that installs the consumer, if it is not installed."""
        module = {IREE: iree, LIBTORCH: libtorch}.get(self.consumer)
        return module.INSTALL if module is not None and not module.is_available() else ""

    def __str__(self) -> str:
        return f"{self.level.word}:{self.consumer}"


@dataclass(frozen=True)
class Cell:
    """The result of a pair. outcome: `agrees`, `differs`, `refused` (with the consumer's message), or `missing` (with what installs it).

    points: how many were compared; special values count too.
    """

    level: str
    consumer: str
    outcome: str
    points: int = 0
    message: str = ""


@dataclass(frozen=True)
class Compared:
    """A pair's cell, with the wrong results as problems."""

    cell: Cell
    problems: tuple[Problem, ...] = ()
    log: str = ""


def summarize(pair: Pair, checks: Sequence[Mapping[str, LevelCheck]]) -> Cell:
    """Return the cell of a level that was verified, from its checks by label at each point."""
    found = [level for check in checks for label, level in check.items() if label.split(" on ")[0] == pair.level.word]
    failures = [level.failure for level in found if level.failure]
    wrong = [compared.detail for level in found for compared in level.outputs.values() if not compared.agrees]
    outcome = "differs" if wrong else "refused" if failures or not found else "agrees"
    message = (wrong or failures or ["" if found else "the program did not pass through the level"])[0]
    return Cell(pair.level.word, pair.consumer, outcome, len([level for level in found if not level.failure]), message)


def compare(program: Program, pair: Pair, bench: Bench, points: Sequence[Point], products: int) -> Compared:
    """Run a pair at `points`, and compare with eager. products: the most of them that the interpreter computes at a point.

    A consumer that does not take the program is data, and so is one whose results differ.
    """
    form = program.at(pair.level)

    def give(outcome: str, message: str = "", count: int = 0, **further: Any) -> Compared:
        return Compared(Cell(pair.level.word, pair.consumer, outcome, count, message), **further)

    if pair.missing:
        return give("missing", pair.missing)
    if form is None:
        return give("refused", f"the program did not pass through the {pair.level.word} level")
    count, refusals, log = 0, [], ""
    try:
        run, remark = make_run(form, pair.consumer, bench.devices[bench.platforms[0]], products)
    except ShapelineError as error:
        return give("refused", str(error), log=error.log)
    for index, point in enumerate(points):
        given = bench.inputs(point.sizes, bench.model.seed + index)
        found = bench.check(run, given, bench.reference(point, given, twice=False))
        if found.failure:
            refusals.append(f"{point}: {found.failure}")
            log = log or found.log
            continue
        count += 1
        if wrong := [Problem(f"output '{name}' of {pair} at {point}", compared.detail)
                     for name, compared in found.outputs.items() if not compared.agrees]:
            return give("differs", wrong[0].cause, count, problems=tuple(wrong))
    return give("agrees" if count else "refused", "; ".join([*refusals[:1], *filter(None, [remark])]), count, log=log)


def make_run(form: Program, consumer: str, device: Xla, products: int) -> tuple[LevelRun, str]:
    """Return a function from inputs by name to the results of a form of a program, as the consumer runs it, and a remark about it.

    Raises StageFailed or Unsupported where the consumer does not take the form at all.
    """
    signature = form.signature
    assert signature is not None
    if consumer == LIBTORCH:
        return LevelRun.prepare(form, _start_libtorch), ""
    if form.level is not Level.STABLEHLO or consumer == XLA:
        return make_runner(form, device), ""
    form = expand_types(form)

    def start(form: Program) -> ReferenceInterpreter | iree.StableHLO:
        engine = ReferenceInterpreter(form.ir, products) if consumer == INTERPRETER else iree.StableHLO(form.ir)
        engine.hold(form.weights)
        return engine

    def connect(engine: ReferenceInterpreter | iree.StableHLO) -> Body:
        return lambda values: engine.run(values, find_known_ints(signature, values))

    engine = start(form)
    refused = engine.refused_dynamic if isinstance(engine, iree.StableHLO) else ""
    remark = f"static at each point, as it is not taken dynamic: {refused}" if refused else ""
    return LevelRun(form, lambda other: connect(start(other)), connect(engine)), remark


def _start_libtorch(form: Program) -> Body:
    signature, engine = form.signature, libtorch.Libtorch(form)
    assert signature is not None
    return lambda values: engine.run(restore_numbers(signature, values))


def choose_points(points: Sequence[Point], bench: Bench, count: int) -> list[Point]:
    """Choose the `count` cheapest points, since a consumer may be slow; one of them has no size below 2 if any has."""
    ordered = sorted(points, key=lambda point: bench.space.elements(point.sizes))
    wide = [point for point in ordered if min(point.sizes.values(), default=2) >= 2][:1]
    return [*wide, *(point for point in ordered if point not in wide)][:count]


def list_problems(words: Sequence[str]) -> list[Problem]:
    """List the words that name no pair."""
    return [Problem("stages.verify.levels", f"'{word}' is no level that runs, with a consumer that takes it", f"one of {', '.join(WORDS)}")
            for word in words if Pair.read(word) is None]

