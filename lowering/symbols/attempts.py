"""Export a model the ways that a policy lists, until one takes all declared sizes; each with its own symbol log."""

from __future__ import annotations

import re
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch.export import ExportedProgram
from torch.fx.experimental import _config, symbolic_shapes
from torch.fx.experimental.symbolic_shapes import ConstraintViolationError, GuardOnDataDependentSymNode

from lowering.eager import training
from lowering.fx import custom_gradients, dynamic_shapes
from lowering.model import Model
from lowering.symbols.branches import Branch, unguarded, watched
from lowering.symbols.capture import Log, Settings, capture
from lowering.symbols.deferred import Deferred, deferred
from lowering.symbols.exporting import NAME, Export
from lowering.symbols.failure import summarized
from lowering.symbols.recording import record
from lowering.symbols.relations import POINTS, refusals
from lowering.symbols.schema import SymbolRecord

# The ways to call torch.export. `declared`: guards on sizes must hold for all declared sizes; `deferred`: torch turns them into assertions;
# `oblivious`: deferred, and no size is taken to differ from 0 and 1; `strict`: as declared, by Dynamo's analysis of the bytecode.
Attempt = Literal["declared", "deferred", "oblivious", "strict"]

_UNBACKED = re.compile(r"(?:u|zuf)\d+")


@dataclass(frozen=True)
class Captured:
    """One attempt. program and error: exactly one is not None. calls: of functions with gradients of their own, in training.

    branches: those that torch asserted for sizes of 2 and more, where smaller ones are declared.
    refused: how many of the declared sizes that were tried the deferred conditions refuse, where there is a program.
    """

    attempt: Attempt
    program: ExportedProgram | None
    error: Exception | None
    record: SymbolRecord
    log: Log
    deferred: tuple[Deferred, ...]
    branches: tuple[Branch, ...]
    calls: list[Any]
    seconds: float
    refused: int


def tried(
    model: Model, module: torch.nn.Module, arguments: Mapping[str, Any], order: Sequence[Attempt], settings: Settings,
    is_explained: Callable[[], bool] = lambda: False,
) -> list[Captured]:
    """Return the attempts that were made, in order. The last one takes all declared sizes, or no other attempt could.

    is_explained: whether the module itself says which of its lines made the last attempt fail; another attempt would fix the same size.
    """
    made: list[Captured] = []
    for attempt in order:
        made.append(_captured(model, module, dict(arguments), attempt, settings))
        error = made[-1].error
        if (error is None and not any(map(_is_lossy, made[-1].deferred))) or (
                error is not None and (is_explained() or not _is_about_sizes(error))):
            break
    return made


def best(made: Sequence[Captured]) -> Captured:
    """The attempt whose program refuses the fewest sizes; where all failed, the first one that says what to change, else the first."""
    succeeded = [one for one in made if one.program is not None]
    if succeeded:
        return min(succeeded, key=lambda one: one.refused)
    return next((one for one in made if one.record.error is not None and one.record.error.fixes), made[0])


def told(made: Sequence[Captured]) -> str:
    """Which attempt succeeded, and what the others refused; empty where the first one did."""
    chosen = best(made)
    if chosen.program is None or chosen is made[0]:
        return ""
    others = "; ".join(f"{one.attempt} {_refusal(one)}, {one.seconds:.1f} s" for one in made if one is not chosen)
    return f"exported as {chosen.attempt} in {chosen.seconds:.1f} s; {others}"


def cause(made: Sequence[Captured]) -> str:
    """Why no attempt succeeded: the reason of the best one, then, briefly, the others'."""
    chosen = best(made)
    said = {summarized(chosen.record.error, chosen.error): ""}
    for one in made:
        said.setdefault(summarized(one.record.error, one.error), f"{one.attempt}: ")
    return "; ".join(f"{attempt}{text}" for text, attempt in said.items())


def _refusal(one: Captured) -> str:
    if one.error is not None:
        return f"refused: {summarized(one.record.error, one.error)}"
    return f"takes only {' and '.join(each.text for each in one.deferred if each.verdict in ('part', 'never'))}"


def _is_lossy(one: Deferred) -> bool:
    return one.verdict in ("part", "never", "unknown")


def _captured(model: Model, module: torch.nn.Module, arguments: dict[str, Any], attempt: Attempt, settings: Settings) -> Captured:
    program, error, calls, seen = None, None, [], {}
    start = time.perf_counter()
    with capture(training.unwrap(module), settings) as log:
        try:
            marking: AbstractContextManager[list[Any]] = custom_gradients.mark_calls() if model.mode == "training" else nullcontext([])
            # not in a function of its own, whose frame would be taken for the model's
            with marking as calls, _oblivious(attempt), watched() as seen:
                program = torch.export.export(module, (), arguments, dynamic_shapes=dynamic_shapes.build_dynamic_shapes(model),
                                              strict=attempt == "strict", prefer_deferred_runtime_asserts_over_guards=_defers(attempt))
        except Exception as raised:  # noqa: BLE001 - torch raises many kinds; what they mean is told by the symbol log
            error = raised
    seconds = time.perf_counter() - start
    export = Export(log, model, program, error)
    asserted = deferred(export) if program is not None and _defers(attempt) else ()
    refused = refusals([one.expr for one in asserted if one.verdict in ("part", "never")], export)
    refused += POINTS * sum(one.verdict == "unknown" for one in asserted)
    branches = unguarded(export, seen) if program is not None else ()
    return Captured(attempt, program, error, record(log, model, program, error), log, asserted, branches, calls, seconds, refused)


def _defers(attempt: Attempt) -> bool:
    return attempt in ("deferred", "oblivious")


def _oblivious(attempt: Attempt) -> AbstractContextManager[Any]:
    return _config.patch(backed_size_oblivious=True) if attempt == "oblivious" else nullcontext()  # type: ignore[attr-defined]


def _is_about_sizes(error: BaseException) -> bool:
    """Whether an export failed on what it needs of sizes of inputs, which another attempt may see otherwise.

    A condition on data alone is the same in all attempts.
    """
    from torch._dynamo.exc import UserError, UserErrorType  # most of a second, which a process that exports nothing does without

    for link in _chain(error):
        if isinstance(link, GuardOnDataDependentSymNode):
            return not all(map(_UNBACKED.fullmatch, NAME.findall(str(getattr(link, "cond", "")))))
        if isinstance(link, ConstraintViolationError) or (isinstance(link, UserError)
                                                          and link.error_type == UserErrorType.CONSTRAINT_VIOLATION):
            return True
        if any(frame.f_code.co_filename == symbolic_shapes.__file__ for frame, _ in traceback.walk_tb(link.__traceback__)):
            return True  # its solver of inequalities asserts that it meets none that it cannot solve
    return any(not _UNBACKED.fullmatch(name) for name in NAME.findall(str(error)))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
