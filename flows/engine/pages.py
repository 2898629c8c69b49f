"""The pages of a run and its jobs in Prefect's UI, as text and tables. Prefect is not imported."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from flows.report import report
from flows.runs.record import Record
from lowering.markdown import escape_line, make_code, make_link
from lowering.record.result import JobResult

SHOWN = 200  # failures listed in the Markdown of a run; the table has every job


def make_key(*words: str) -> str:
    """Return an artifact's key: lowercase letters, digits and dashes, with a digest where other words would give the same key."""
    text = "-".join(("shapeline", *words))
    plainer = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    usual = re.sub(r"[-_.]+", "-", text.lower()).strip("-")
    if plainer == usual and len(plainer) < 120:
        return plainer
    return f"{plainer[:110].strip('-')}-{hashlib.sha256(text.encode('utf-8', 'backslashreplace')).hexdigest()[:8]}"


def list_makers(result: JobResult) -> str:
    """Return the jobs (`run/job`) that made the stored stages of `result`."""
    return ", ".join(dict.fromkeys(stage.maker for stage in result.stages if stage.maker))


def describe_end(result: JobResult) -> str:
    """Return the message of the state of a job's task."""
    said = f"{result.outcome} in {result.stage} after {result.seconds:.1f} s"
    return said if result.outcome == "ok" else f"{said}: {report.describe_cause(result)}"


def render_taken(results: Sequence[JobResult]) -> tuple[str, str]:
    """Return the page of a batch of jobs taken from the store, as Markdown, and its description."""
    rows = [{"job": result.id, "outcome": result.outcome, "warnings": len(result.warnings), "made by": list_makers(result)}
            for result in results]
    said = f"{report.pluralize(len(results), 'job')} taken from the store"
    return "\n".join([f"# {said}", "", *report.table(rows)]), said


def make_table(results: Sequence[JobResult], pages: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return a row for every job, unexpected outcomes first, with a link to its page. The UI renders all text of a table as Markdown."""
    listed = sorted(results, key=lambda result: result.as_expected)
    rows = zip(report.make_rows(listed), listed, strict=True)
    return [{**{name: escape_line(cell) if isinstance(cell, str) else cell for name, cell in row.items()},
             "job": make_link(result.id, _find_page(result, pages))} for row, result in rows]


def render_failures(run: Record, results: Sequence[JobResult], pages: Mapping[str, str]) -> Iterator[str]:
    """Yield the lines of the failures of a run as Markdown, each with a link to its page. pages: ids of artifacts by key."""
    failed = report.find_unexpected(results)
    yield f"# {escape_line(run.data['suite'])}: {report.summarize(results)}"
    yield ""
    page = make_code(f"{run.folder}/report.html")
    yield f"Report: {page}" if failed else f"Everything as expected. Report: {page}"
    yield ""
    named = [{"job": result.id, "outcome": result.outcome, "stage": result.stage, "cause": report.describe_cause(result)}
             for result in failed[:SHOWN]]
    yield from report.table(named)
    if failed:
        yield ""
        yield "Pages: " + " · ".join(make_link(result.id, _find_page(result, pages)) for result in failed[:SHOWN])
    if len(failed) > SHOWN:
        yield f"\nand {len(failed) - SHOWN} more in the table"


def _find_page(result: JobResult, pages: Mapping[str, str]) -> str:
    """Return the address of a job's page, or of the list of its versions if the page is unknown."""
    name = make_key("job", result.id)
    return f"/artifacts/artifact/{pages[name]}" if name in pages else f"/artifacts/key/{name}"

