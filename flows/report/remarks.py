"""The warnings of a run, grouped so that frequent ones do not hide rare ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lowering.record.result import JobResult, Remark

COMMON = ("promised_wider_than_traced",)  # nearly every job has these: one line for all jobs
LOST = ("became_static", "example_0_or_1", "no_symbol", "lost_at_level")  # a dim accepts only one size
PLACES = 4  # maximum number of places in a line


def make_rows(results: Sequence[JobResult]) -> list[dict[str, Any]]:
    """Return a line for each common code, then a line for each code and job, in the order of the jobs."""
    grouped: dict[tuple[str, str], list[tuple[str, Remark]]] = {}
    for result in results:
        for remark in result.warnings:
            key = ("", remark.code) if remark.code in COMMON else (result.id, remark.code)
            grouped.setdefault(key, []).append((result.id, remark))
    several, single = [row for row in grouped.items() if not row[0][0]], [row for row in grouped.items() if row[0][0]]
    return [_make_row(found) for _, found in (*single, *several)]


def describe_lost(result: JobResult) -> str:
    """Return the warning in a job's row about dims that were declared as dynamic and are not; empty if there are none."""
    found = [remark.message for remark in result.warnings if remark.code in LOST]
    return f"warning: {found[0]}" + (f" (and {len(found) - 1} more)" if len(found) > 1 else "") if found else ""


def _make_row(found: Sequence[tuple[str, Remark]]) -> dict[str, Any]:
    jobs = list(dict.fromkeys(job for job, _ in found))
    first = found[0][1]
    places = list(dict.fromkeys(remark.place for _, remark in found if remark.place))
    message = first.message if len(found) == 1 else f"{first.message} (and {len(found) - 1} more)"
    return {
        "job": jobs[0] if len(jobs) == 1 else f"{len(jobs)} jobs",
        "stage": ", ".join(dict.fromkeys(remark.stage for _, remark in found)),
        "code": first.code,
        "place": ", ".join(places[:PLACES]) + (", …" if len(places) > PLACES else ""),
        "message": message,
    }
