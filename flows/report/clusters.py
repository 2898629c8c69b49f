"""Clusters of failures with the same cause: the signature of a problem, independent of numbers, names and paths."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lowering import files
from lowering.markdown import table
from lowering.record.result import JobResult


@dataclass(frozen=True)
class Note:
    """A remark on a cause. at: time, ISO 8601."""

    text: str
    by: str
    at: str


@dataclass(frozen=True)
class ReportedTicket:
    """The ticket of a cause, as a report names it. ref: its page, or what its tracker calls it."""

    ref: str
    open: bool


@dataclass(frozen=True)
class ReportedCause:
    """A cause of failures in report.json. id: by which commands name it; signature: outcome, stage and problem, generalized."""

    id: str
    signature: str
    notes: tuple[Note, ...]
    ticket: ReportedTicket | None


_RULES = (
    (re.compile(r"0x[0-9a-fA-F]+"), "0x…"),
    (re.compile(r"(?:[\w.~-]*/)+[\w.-]+(?::\d+)*"), "FILE"),
    (re.compile(r"'[^'\n]*'|\"[^\"\n]*\"|`[^`\n]*`"), "'…'"),
    (re.compile(r"%[\w$.-]+"), "%…"),
    (re.compile(r"tensor<[^>]*>+|vtensor<[^>]*>+"), "tensor<…>"),
    (re.compile(r"\b[su]\d+\b"), "symbol"),
    (re.compile(r"[-+]?\d[\d.,_]*(?:[eE][-+]?\d+)?"), "N"),
    (re.compile(r"\s+"), " "),
)


def make_signature(result: JobResult) -> str:
    """Return outcome, stage and the generalized first problem of a job; empty for a job that ended as expected."""
    if result.as_expected:
        return ""
    cause = result.problems[0].cause.strip().split("\n", 1)[0] if result.problems else "ended otherwise than expected"
    return f"{result.outcome} in {result.stage}: {generalize(cause)}"


def generalize(cause: str) -> str:
    """Return a message without the parts that vary between jobs."""
    for pattern, word in _RULES:
        cause = pattern.sub(word, cause)
    return cause.strip()[:200]


def make_id(signature: str) -> str:
    """Return the short name of a cause, by which commands and tickets refer to it."""
    return hashlib.sha256(files.encode(signature)).hexdigest()[:8]


def render_lines(results: Sequence[JobResult], causes: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield the table of the causes in report.md: jobs, notes and ticket of each. causes: as in report.json."""
    known = {cause["signature"]: cause for cause in causes}
    jobs: dict[str, int] = {}
    for result in results:
        if signature := make_signature(result):
            jobs[signature] = jobs.get(signature, 0) + 1
    rows = []
    for signature, count in sorted(jobs.items(), key=lambda item: -item[1]):
        cause = known.get(signature, {})
        ticket = cause.get("ticket")
        rows.append({
            "cause": f"`{make_id(signature)}`",
            "jobs": count,
            "failure": signature,
            "ticket": f"{ticket['ref']}{'' if ticket['open'] else ' (closed)'}" if ticket else "",
            "notes": "\n".join(f"{note['text']} ({note['by']}, {note['at'][:10]})" for note in cause.get("notes", ())),
        })  # fmt: skip
    if rows:
        yield ""
        yield from table(rows)
