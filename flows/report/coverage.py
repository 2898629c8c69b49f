"""Coverage of a run: how many jobs reach each level, are verified, and keep their dims, by family, and what changed since another run."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from flows.report.exports import count_dims, format_csv_row
from lowering.markdown import escape_line, pluralize, table

POINTS = 3  # shape points at which a program must agree with eager to count as verified
LEVELS = ("export", "torchscript", "torch", "stablehlo", "mhlo")  # stages that write a level
FORMATS = ("markdown", "csv", "html")
TOTAL = "all"
_FAMILY = re.compile(r"^[^_/-]+")


@dataclass(frozen=True)
class Covered:
    """The progress of a job. levels: those that it reached; kept: whether all requested dims stayed dynamic; cause: why it is not ok."""

    job: str
    family: str
    levels: tuple[str, ...]
    verified: bool
    kept: bool
    end: str
    cause: str = ""

    @property
    def marks(self) -> tuple[str, ...]:
        """The columns in which the job counts."""
        return (*self.levels, *(("verified",) if self.verified else ()), *(("dims dynamic",) if self.kept else ()))


def cover(report: Mapping[str, Any], families: Mapping[str, str] | None = None) -> list[Covered]:
    """Return a row for each job of a report.json. families: of models; without one, the first word of the model's name is its family."""
    return [_cover_job(job, (families or {}).get(job["model"]) or _FAMILY.match(job["model"])[0]) for job in report["jobs"]]  # type: ignore[index]


def _cover_job(job: Mapping[str, Any], family: str) -> Covered:
    reached = {stage["name"] for stage in job["stages"] if stage["outcome"] == "ok"}
    points = (job.get("verify") or {}).get("points") or ()
    dims = count_dims(job)
    kept = "mhlo" in reached and (dims is None or dims[0] == dims[1])
    end = job["outcome"] if job["outcome"] == "ok" else f"{job['outcome']} in {job['stage']}"
    problems = job["problems"]
    cause = " ".join(f"{problems[0]['place']}: {problems[0]['cause']}".strip(": ").split())[:200] if problems else ""
    verified = job["outcome"] == "ok" and not isinstance(points, int) and len(points) >= POINTS
    return Covered(job["id"], family, tuple(level for level in LEVELS if level in reached), verified, kept, end, cause)


def count(rows: Sequence[Covered], against: Sequence[Covered] = ()) -> list[dict[str, Any]]:
    """Return a row of figures per family, and one for all. against: an earlier run, whose differences are added: `12 (+2)`."""
    families = sorted({row.family for row in (*rows, *against)})
    figures = []
    for family in [*families, TOTAL] if len(families) > 1 else families:
        now, before = ([row for row in some if family in (row.family, TOTAL)] for some in (rows, against))
        line: dict[str, Any] = {"family": family, "jobs": _format(len(now), len(before), bool(against))}
        for column in (*LEVELS, "verified", "dims dynamic"):
            was, is_ = (sum(column in row.marks for row in some) for some in (before, now))
            line[column] = _format(is_, was, bool(against))
        figures.append(line)
    return figures


def _format(now: int, before: int, compared: bool) -> int | str:
    return f"{now} ({now - before:+d})" if compared and now != before else now


def compare(rows: Sequence[Covered], against: Sequence[Covered]) -> list[dict[str, Any]]:
    """Return the jobs that count in other columns than in the earlier run."""
    before, found = {row.job: row for row in against}, []
    for row in rows:
        old = before.pop(row.job, None)
        if old is None:
            found.append({"job": row.job, "change": "new", "was": "", "is": row.end})
        elif old.marks != row.marks:
            gained, lost = ([mark for mark in one.marks if mark not in other.marks] for one, other in ((row, old), (old, row)))
            words = [f"{sign}{', '.join(marks)}" for sign, marks in (("+ ", gained), ("- ", lost)) if marks]
            found.append({"job": row.job, "change": "; ".join(words), "was": old.end, "is": row.end})
    return [*found, *({"job": name, "change": "missing", "was": old.end, "is": ""} for name, old in before.items())]


def render_markdown(title: str, rows: Sequence[Covered], against: Sequence[Covered] = ()) -> Iterator[str]:
    """Yield the lines of a page: figures, what changed, and what does not arrive with its reason."""
    yield f"# {escape_line(title)}"
    yield ""
    whole, verified = len(rows), sum(row.verified for row in rows)
    reached = sum("mhlo" in row.levels for row in rows)
    agreed = f"{verified} agree there with eager at {POINTS} or more points ({_share(verified, whole)})"
    yield f"{pluralize(whole, 'job')}: {reached} reach MHLO ({_share(reached, whole)}), {agreed}."
    for heading, lines in _make_tables(rows, against):
        yield ""
        if heading:
            yield f"## {heading}"
            yield ""
        yield from table(lines)


def render_csv(rows: Sequence[Covered], against: Sequence[Covered] = ()) -> str:
    """Return a row per job: what it reaches, how it ends, and how it ended in the earlier run."""
    before = {row.job: row.end for row in against}
    lines: list[list[Any]] = [["job", "family", *LEVELS, "verified", "dims dynamic", "end", "cause", "before"]]
    for row in rows:
        marks = [int(column in row.marks) for column in (*LEVELS, "verified", "dims dynamic")]
        lines.append([row.job, row.family, *marks, row.end, row.cause, before.get(row.job, "")])
    return "".join(f"{format_csv_row(line)}\n" for line in lines)


def render_html(title: str, rows: Sequence[Covered], against: Sequence[Covered] = ()) -> str:
    """Return the page as HTML without scripts, to paste into release notes."""
    parts = [f"<!doctype html>\n<meta charset=utf-8>\n<title>{html.escape(title)}</title>\n<h1>{html.escape(title)}</h1>"]
    for heading, lines in _make_tables(rows, against):
        if heading and lines:
            parts.append(f"<h2>{html.escape(heading)}</h2>")
        if lines:
            cells = [list(lines[0]), *(line.values() for line in lines)]
            body = "\n".join("<tr>" + "".join(f"<{tag}>{html.escape(str(cell))}</{tag}>" for cell in row) + "</tr>"
                             for row, tag in zip(cells, ["th", *["td"] * len(lines)], strict=True))  # fmt: skip
            parts.append(f"<table border=1>\n{body}\n</table>")
    return "\n".join(parts) + "\n"


def _make_tables(rows: Sequence[Covered], against: Sequence[Covered]) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    yield "", count(rows, against)
    if against and (changed := compare(rows, against)):
        yield "What changed", changed
    if rest := [{"job": row.job, "ends": row.end, "why": row.cause} for row in rows if row.end != "ok"]:
        yield "What does not arrive, and why", rest


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "none"
