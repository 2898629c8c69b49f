"""Decide the assertions on sizes that torch deferred to run time, over the declared ranges."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from lowering.errors import Problem
from lowering.sizes.spelling import spelled
from lowering.symbols.exporting import NAME, Export
from lowering.symbols.frames import convert_spot
from lowering.symbols.relations import find_implied, judge, tried_whole
from lowering.symbols.schema import Line

Verdict = Literal["always", "implied", "part", "unproved", "never", "unknown"]


@dataclass(frozen=True)
class Deferred:
    """One condition on sizes. expr: in torch's symbols; text: in the author's; guard: in those that callers choose, for the signature.

    verdict: `always` true; `implied` by others that are carried; true of a `part` of the declared sizes; `unproved`: true of all that were
    tried; `never` true; `unknown`: it uses a function that cannot be evaluated here.
    """

    expr: str
    text: str
    guard: str
    line: Line | None
    verdict: Verdict

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


def deferred(export: Export) -> tuple[Deferred, ...]:
    """Return the conditions on sizes of inputs that torch deferred, without duplicates and without those that depend on data."""
    found: dict[str, Deferred] = {}
    for expr, line in decided(export):
        if expr not in found and (one := guarded(expr, line, export)) is not None:
            found[expr] = one
    implied = find_implied([one.expr for one in found.values() if one.verdict == "part"], export)
    return tuple(replace(one, verdict="implied") if one.expr in implied else one for one in found.values())


def guarded(expr: str, line: Line | None, export: Export) -> Deferred | None:
    """Decide a condition in torch's symbols over the declared sizes. Return None if it depends on data, or on no size."""
    names = set(NAME.findall(expr))
    if not names or not names <= export.values.keys():
        return None
    guard = spelled(NAME.sub(lambda match: export.values[match[0]], expr))
    return Deferred(expr, export.named(expr), guard, line, _verdict(expr, export))


def decided(export: Export) -> Iterator[tuple[str, Line | None]]:
    """Iterate over all conditions that tracing decided. torch narrows ranges by them, and may then omit an assertion as known."""
    for event in export.log.events:
        if event.kind == "guard" and "suppressed" not in str(event.data["prefix"]):
            yield export.folded(str(event.data["expr"])), convert_spot(event.stack[-1]) if event.stack else None


def _verdict(expr: str, export: Export) -> Verdict:
    holds, _ = judge(expr, export)
    if holds in ("always", "unknown"):
        return holds  # type: ignore[return-value]
    whole = tried_whole(expr, export)
    if whole is None:
        return "part" if holds == "no" else "unproved"
    return "always" if whole[0] else "part" if whole[1] else "never"
