"""The warnings of a verification: values that were not compared, or compared less strictly than the options ask for."""

from __future__ import annotations

from collections.abc import Sequence

from lowering.eager.mlir_module import MlirModule
from lowering.level import Level, Program
from lowering.model import Model
from lowering.numerics.consumers import Cell, Pair
from lowering.numerics.coverage import relations
from lowering.numerics.verification import Verification
from lowering.stage import Note


def note_gaps(found: Verification, points: int, note: Note) -> None:
    """Warn about sizes, results and elements that were compared less than asked. points: how many were asked for."""
    for point, guard in found.declined:
        cause = f"sizes inside the declared ranges are refused by the program itself, and nothing is compared there: {guard}"
        note("point_declined", cause, str(point))
    if len(found.points) < points and not found.is_exhaustive:
        why = "the program's guards decline the others" if found.declined else "no others were found inside the budgets"
        note("few_points", f"{len(found.points)} of {points} points were compared: {why}", "stages.verify.points")
    if found.random:
        note("results_random", "random results were compared by dtype and shape, and by their distributions over several runs where a run "
             "is quick", ", ".join(found.random))
    if found.uncompared:
        note("result_not_compared", "eager gave no finite element at any point, so no number was compared: choose fills or a seed for "
             "which the model computes numbers", ", ".join(found.uncompared))
    for dtype, reason in found.weakened.items():
        note("tolerance_weakened", f"more is allowed than the default of {dtype}: {reason or 'no reason is given'}", f"tolerances.{dtype}")


def note_consumer(cell: Cell, note: Note) -> None:
    """Warn about a consumer that did not run, or not at every point."""
    place = f"{cell.level}:{cell.consumer}"
    if cell.outcome == "missing":
        note("consumer_missing", f"is not installed, so it ran nothing: {cell.message}", place)
    elif cell.message and cell.outcome in ("refused", "agrees") and not Pair(_find_level(cell.level), cell.consumer).is_default:
        note("level_not_run", cell.message, place)


def note_levels(program: Program, levels: Sequence[Level], note: Note) -> None:
    """Warn about levels that were asked for and that the program has not."""
    for level in levels:
        if program.at(level) is None:
            note("verify_level_missing", f"the program did not pass through the {level.word} level, so it was not compared")


def note_ranges(program: Program, model: Model, source: MlirModule | None, note: Note) -> None:
    """Warn about ranges that `model` declares and the program does not check. source: the module of a program that starts as MLIR."""
    if not model.symbols:
        return
    if source is not None and source.level is not Level.TORCH:
        note("ranges_not_carried", "the program has the source's own assertions, and none of the declared ranges", source.path)
    elif not relations.carries_assertions(program):
        note("ranges_not_carried", "the program holds no shape assertion, so it takes sizes outside its ranges without a word")


def _find_level(word: str) -> Level:
    return next(level for level in Level if level.word == word)
