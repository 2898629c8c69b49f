"""The joined programs of a run in its report: a row for each model with several entries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lowering.markdown import table
from lowering.record.joining import Joining


def render_lines(programs: Sequence[Joining]) -> Iterator[str]:
    """Yield the section of report.md; nothing for a run without entries."""
    rows = [{
        "program": one.id,
        "outcome": one.outcome,
        "entries": ", ".join(one.jobs),
        "run and compared": ", ".join(one.checked) or "none",
        "left out": "; ".join(f"{entry}: {why}" for entry, why in one.missing.items()),
        "cause": str(one.problems[0]) if one.problems else "",
    } for one in programs]
    if rows:
        yield ""
        yield "## Programs of several entries"
        yield ""
        yield from table(rows)

