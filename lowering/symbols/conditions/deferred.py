"""Decide the assertions on sizes that torch deferred to run time, over the declared ranges."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import sympy
from torch.export import ExportedProgram

from lowering.errors import Problem
from lowering.fx import cleanup
from lowering.sizes import normal
from lowering.sizes.ranges import Bound
from lowering.sizes.spelling import spell_condition
from lowering.symbols.conditions.relations import find_implied, judge, try_all_sizes
from lowering.symbols.schema import Line
from lowering.symbols.tracing.exporting import NAME, Export
from lowering.symbols.tracing.frames import convert_spot

Verdict = Literal["always", "implied", "compared", "part", "unproved", "never", "unknown"]


@dataclass(frozen=True)
class Deferred:
    """One condition on sizes. expr: in torch's symbols; text: in the author's; guard: in those that callers choose, for the signature.

    verdict: `always` true; `implied` by others that are carried; `compared`: false at some sizes, at which the program is right; true of a
    `part` of the declared sizes; `unproved`: true of all that were tried; `never` true; `unknown`: it uses a function that cannot be
    evaluated here.
    """

    expr: str
    text: str
    guard: str
    line: Line | None
    verdict: Verdict

    @property
    def is_dropped(self) -> bool:
        """Whether the program needs no assertion of it."""
        return self.verdict in ("always", "implied", "compared")

    @property
    def is_carried(self) -> bool:
        """Whether the program must assert it."""
        return self.verdict in ("part", "unproved")

    @property
    def problem(self) -> Problem:
        """The reason for refusing a program that needs it."""
        place = str(self.line or "torch.export")
        if self.verdict == "never":
            return Problem(place, f"the code needs {self.text}, which no declared size satisfies", "change the range of its symbols")
        return Problem(place, f"the code needs {self.text}, which can neither be proved for the declared sizes nor asserted",
                       "write it as a comparison of sums, products and quotients of sizes")


def list_deferred(export: Export, spare: Callable[[Sequence[Deferred]], Sequence[Deferred]] = tuple) -> tuple[Deferred, ...]:
    """Return the conditions on sizes of inputs that torch deferred, without duplicates and without those that depend on data.

    spare: marks those that need not be asserted; they imply no others.
    """
    found: dict[str, Deferred] = {}
    for expr, line in list_decided(export):
        if expr not in found and (one := judge_condition(expr, line, export)) is not None:
            found[expr] = one
    judged = spare(tuple(found.values()))
    implied = find_implied([one.expr for one in judged if one.verdict == "part"], export)
    return tuple(replace(one, verdict="implied") if one.expr in implied else one for one in judged)


def list_asserted(program: ExportedProgram, export: Export) -> tuple[Deferred, ...]:
    """Return the conditions on sizes of inputs that a graph asserts, such as one that a later trace made."""
    return judge_all((expr for node in program.graph.nodes if (expr := cleanup.read_assertion(node)) is not None), export)


def judge_all(conditions: Iterable[sympy.Basic], export: Export) -> tuple[Deferred, ...]:
    """Decide conditions on sizes of inputs, without duplicates and without those that depend on data."""
    found = (judge_condition(export.rename_retraced(str(expr)), None, export) for expr in conditions)
    return tuple({one.expr: one for one in found if one is not None}.values())


def judge_condition(expr: str, line: Line | None, export: Export) -> Deferred | None:
    """Decide a condition in torch's symbols over the declared sizes. Return None if it depends on data, or on no size."""
    names = set(NAME.findall(expr))
    if not names or not names <= export.values.keys():
        return None
    guard = spell_condition(NAME.sub(lambda match: export.values[match[0]], expr))
    return Deferred(expr, export.translate(expr), guard, line, _judge(expr, guard, export))


def list_decided(export: Export) -> Iterator[tuple[str, Line | None]]:
    """Iterate over all conditions that tracing decided, then over those that the graph asserts in another form.

    torch narrows ranges by the first, and may then omit an assertion as known.
    """
    for event in export.log.events:
        if event.kind == "guard" and "suppressed" not in str(event.data["prefix"]):
            yield export.rename_retraced(str(event.data["expr"])), convert_spot(event.stack[-1]) if event.stack else None
    for one in list_asserted(export.program, export) if export.program is not None else ():
        yield one.expr, None


def _judge(expr: str, guard: str, export: Export) -> Verdict:
    holds, _ = judge(expr, export)
    if holds in ("always", "unknown"):
        return holds  # type: ignore[return-value]
    if holds == "tried" and _is_proved(guard, export):
        return "always"
    whole = try_all_sizes(expr, export)
    if whole is None:
        return "part" if holds == "no" else "unproved"
    return "always" if whole[0] else "part" if whole[1] else "never"


def _is_proved(guard: str, export: Export) -> bool:
    """Return whether the normal form of a condition, in which its quotients and remainders cancel, is true in the declared ranges."""
    bounds = {name: Bound(symbol.min, symbol.max, symbol.multiple_of) for name, symbol in export.model.symbols.items()}
    return normal.is_always_true(guard, normal.symbols(bounds))
