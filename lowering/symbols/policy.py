"""The policy of an export: which attempts are made, and which of their programs is taken."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch

from lowering.fx import dynamic_shapes
from lowering.fx.tracing import transforms
from lowering.model import Model
from lowering.symbols.attempts import Attempt, Captured, Options, TookTooLong, capture_attempt, is_strict
from lowering.symbols.conditions.deferred import Deferred
from lowering.symbols.failures.failure import is_about_sizes, summarize
from lowering.symbols.schema import Attempted, SymbolRecord

_CONVERSION = re.compile(r"(?<![\w.])(?:int|float|len)\(")
_MOST_NODES = 2000  # of a program that is exported again because its guards refuse a few sizes


def try_all(
    model: Model, module: torch.nn.Module, arguments: Callable[[Model], Mapping[str, Any]], order: Sequence[Attempt], options: Options
) -> list[Captured]:
    """Return the attempts that were made, in order. The last one takes all declared sizes, or no other attempt could.

    A program whose guards refuse declared sizes is followed by `oblivious` only, and a long one by none: torch does not count a guard on a
    dim that is derived from a symbol, such as `n // 4 != 1`, as a violation.
    `strict_oblivious` follows others only if they failed where Python converts a size: Dynamo alone keeps `int(size * 0.7)` dynamic.
    `auto` follows others only if all of them failed. The second attempt that exceeds the limit is the last.
    arguments: of forward, at the traced sizes of a model.
    """
    made: list[Captured] = []
    above = True  # trace above autograd, which keeps composite ops whole
    for attempt in order:
        if attempt == "strict_oblivious" and made and not any(map(_converts_sizes, made)):
            continue
        if made and made[0].guards and attempt != "oblivious":
            continue
        if attempt == "auto" and any(one.program is not None for one in made):
            continue
        if options.pads_data and made and _is_on_data(made[0]) and not is_strict(attempt):
            continue
        traced = dynamic_shapes.round_examples(model) if attempt == "round" else model
        found = capture_attempt(traced, module, dict(arguments(traced)), attempt, options, above)
        if above and (found.undifferentiated or transforms.are_lost(found.program, found.error, found.transforms)):
            above = False
            found = capture_attempt(traced, module, dict(arguments(traced)), attempt, options, above)
        made.append(found)
        error = found.error
        if isinstance(error, TookTooLong) and sum(isinstance(one.error, TookTooLong) for one in made) == 1:
            continue
        if found.guards and len(found.program.graph.nodes) > _MOST_NODES:  # type: ignore[union-attr]
            break
        if error is None:
            is_final = not found.guards and not any(map(_is_lossy, found.deferred))
        else:
            is_final = options.is_explained() or not (is_about_sizes(error) or (options.pads_data and _is_on_data(found)))
        if is_final:
            break
    return made


def choose_best(made: Sequence[Captured]) -> Captured:
    """Return the attempt whose program takes the widest part of the ranges; of equal ones, the one that refuses the fewest sizes.

    Where all failed, the first one that says what to change, else the first. An `auto` attempt that takes no range of sizes has failed,
    unless there is no other.
    """
    succeeded = [one for one in made if one.program is not None and (one.attempt != "auto" or one.part is not None or len(made) == 1)]
    if succeeded:
        return min(succeeded, key=lambda one: (one.refused > 0, -round(one.share, 6), one.refused))
    return next((one for one in made if one.record.error is not None and one.record.error.fixes and one.attempt != "round"), made[0])


def describe(made: Sequence[Captured]) -> str:
    """Describe which attempt succeeded and what the others refused. The text is empty if the first one succeeded."""
    chosen = choose_best(made)
    if chosen.program is None or chosen is made[0]:
        return ""
    others = "; ".join(f"{one.attempt} {_describe_refusal(one)}, {one.seconds:.1f} s" for one in made if one is not chosen)
    return f"exported as {chosen.attempt} in {chosen.seconds:.1f} s; {others}"


def build_record(made: Sequence[Captured]) -> SymbolRecord:
    """Return the record of the best attempt, with the outcome of each."""
    chosen = choose_best(made)
    return replace(chosen.record, repeat=chosen.repeat, attempts=tuple(
        Attempted(one.attempt, "refused" if one.error is not None else "taken" if one is chosen else "set aside", round(one.seconds, 3),
                  "" if one.error is None and not one.refused else _describe_refusal(one),
                  sum(each.verdict == "always" for each in one.deferred), tuple(each.text for each in one.deferred if each.is_carried))
        for one in made))


def describe_cause(made: Sequence[Captured]) -> str:
    """Return why no attempt succeeded: the reason of the best one, then that of the first. The record has those of all."""
    chosen, first = choose_best(made), made[0]
    said = summarize(chosen.record.error, chosen.error)
    other = summarize(first.record.error, first.error)
    return said if other == said else f"{said}; {first.attempt}: {other}"


def _describe_refusal(one: Captured) -> str:
    if one.error is not None:
        return f"refused: {summarize(one.record.error, one.error)}"
    return f"takes only {' and '.join(each.text for each in (*one.guards, *one.deferred) if each.verdict in ('part', 'never'))}"


def _converts_sizes(one: Captured) -> bool:
    """Return whether a line that needs a certain size calls int(), float() or len()."""
    lines = [each.line for each in one.deferred if _is_lossy(each)] + [one.record.error.line if one.record.error is not None else None]
    return any(_CONVERSION.search(line.code) for line in lines if line is not None)


def _is_on_data(one: Captured) -> bool:
    """Return whether an attempt failed where Python converts a size that data decide."""
    return one.error is not None and not is_about_sizes(one.error) and _converts_sizes(one)


def _is_lossy(one: Deferred) -> bool:
    return one.verdict in ("part", "never", "unknown")
