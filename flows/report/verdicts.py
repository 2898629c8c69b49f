"""The sections of a report about expectations: expected failures, unexpected passes, jobs without an expectation, and flaky jobs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from flows.runs.record import Record
from lowering.markdown import make_code, table
from lowering.record.result import UNJUDGED, UNSPECIFIED, JobResult


def render_lines(run: Record, results: Sequence[JobResult], unsteady: Mapping[str, Sequence[Mapping[str, str]]]) -> Iterator[str]:
    """Yield the sections of report.md about expectations; nothing for a run whose jobs all passed as expected."""
    expected = [result for result in results if result.expected not in ("ok", UNSPECIFIED)]
    new = [result for result in results if result.expected == UNSPECIFIED]
    if failing := [result for result in expected if result.outcome != "ok" and result.as_expected]:
        yield from _render_section("Fail as expected", [
            {"job": result.id, "end": format_end(result), "reason": result.expect.reason} for result in failing])
    if passing := [result for result in expected if result.outcome == "ok"]:
        yield from _render_section("Pass, but were expected to fail", [
            {"job": result.id, "expected": str(result.expect), "reason": result.expect.reason} for result in passing])
        yield ""
        yield f"{make_code(f'shapeline update-expected {run.folder.name}')} removes their entries."
    if new:
        yield from _render_section("Without an expectation", [{"job": result.id, "end": format_end(result)} for result in new])
        yield ""
        yield f"{make_code(f'shapeline update-expected {run.folder.name}')} adds them."
    if unsteady:
        now = {result.id: result for result in results}
        yield from _render_section("Flaky: the same job and code ended differently before", [
            {"job": name, "now": format_end(now[name]),
             "before": "; ".join(f"{one['outcome']} in {one['stage']} ({one['run']})" for one in earlier[:3])}
            for name, earlier in unsteady.items()])


def format_end(result: JobResult) -> str:
    return result.outcome if result.outcome in ("ok", *UNJUDGED) else f"{result.outcome} in {result.stage}"


def _render_section(title: str, rows: Sequence[dict[str, str]]) -> Iterator[str]:
    yield ""
    yield f"## {title}"
    yield ""
    yield from table(rows)
