"""The consumers of each level in report.md: which of them agree with eager, and why others did not run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lowering.markdown import escape_item, make_code, table
from lowering.record.result import JobResult

_LONGEST = 160


def render_lines(results: Sequence[JobResult]) -> Iterator[str]:
    """Yield the section of report.md; nothing for a run that has only the consumers of every verification."""
    cells = {result.id: {f"{cell['level']}:{cell['consumer']}": cell for cell in result.verify.get("consumers", ())} for result in results}
    columns = list(dict.fromkeys(name for row in cells.values() for name in row))
    if not any(name.endswith((":iree", ":interpreter")) for name in columns):
        return
    yield ""
    yield "## Consumers"
    yield ""
    yield from table([{"job": job, **{name: _describe(row.get(name)) for name in columns}} for job, row in cells.items() if row])
    messages = [f"{name} of {job}: {' '.join(cell['message'][:_LONGEST].split())}" for job, row in cells.items()
                for name, cell in row.items() if cell["message"] and cell["outcome"] != "missing"]
    install = dict.fromkeys(f"- {escape_item(name)} is not installed: {make_code(cell['message'])}" for row in cells.values()
                            for name, cell in row.items() if cell["outcome"] == "missing")
    if messages or install:
        yield ""
        yield from [*install, *(f"- {escape_item(message)}" for message in messages)]


def _describe(cell: Mapping[str, Any] | None) -> str:
    if cell is None:
        return ""
    outcome = "not installed" if cell["outcome"] == "missing" else str(cell["outcome"])
    return f"{outcome} ({cell['points']})" if cell["points"] else outcome
