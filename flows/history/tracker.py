"""Tickets for the causes of failures: one per cause, opened, updated, closed and reopened as runs show them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from flows.history import causes
from flows.history.causes import Cause, State, Ticket
from flows.output import REPORT
from flows.runs import record, shapes
from lowering.markdown import make_code, pluralize
from lowering.record.result import UNJUDGED

LISTED = 20  # jobs listed in a ticket


@dataclass(frozen=True)
class Action:
    """An action on the ticket of a cause. ref: the ticket; empty for one to open.

    body: the whole text of the ticket; comment: what is new, empty if nothing is but the run.
    """

    kind: Literal["open", "update", "close", "reopen"]
    cause: Cause
    ref: str
    title: str
    body: str
    comment: str = ""
    jobs: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kind} {self.ref or 'a ticket'}: {self.title}{f': {self.comment}' if self.comment else ''}"


class Tracker(Protocol):
    """A place for tickets. Its methods raise OSError or ValueError if an action fails."""

    def apply(self, action: Action) -> str:
        """Carry out an action, and return the name of the ticket: a URL, or what the tracker calls it."""


def follow(folder: Path, tracker: Tracker | None, tell: Callable[[str], None] = lambda text: None) -> list[str]:
    """Carry out what the finished run in `folder` requires, and return a message for each action that failed.

    tracker: None to only tell what would be done. tell: called with each action. A failed action is tried again with the next run.
    Raises ConfigError if a record is damaged.
    """
    runs, failed = folder.parent, []
    for action in plan(causes.read(runs), folder):
        tell(str(action))
        if tracker is None:
            continue
        try:
            ref = tracker.apply(action)
        except (OSError, ValueError) as error:
            failed.append(f"the tracker did not {action.kind} {action.ref or 'a ticket'} ({action.title}): {error}")
            continue
        suite = str(shapes.read_report(folder / REPORT)["suite"])
        suites = tuple(sorted({suite, *(action.cause.ticket.suites if action.cause.ticket else ())}))
        causes.set_ticket(runs, action.cause.id, Ticket(ref, action.kind != "close", suites, action.jobs, folder.name))
    return failed


def plan(state: State, folder: Path) -> list[Action]:
    """Return the actions that the finished run in `folder` requires. Causes outside of the models (infra, not_run) get no ticket."""
    run = record.load(folder)
    suite = str(run.data["suite"])
    if str(run.data["started"]) != state.followed.get(suite):
        return []  # an older run says nothing about now
    return [action for cause in state.causes.values() if cause.signature.split(" ", 1)[0] not in UNJUDGED
            for action in _plan_cause(cause, suite, run)]


def _plan_cause(cause: Cause, suite: str, run: record.Record) -> Iterator[Action]:
    ticket = cause.ticket
    suites = {suite, *(ticket.suites if ticket else ())}
    jobs = tuple(job for name in sorted(suites) for job in cause.jobs.get(name, ()))
    title = f"[shapeline] {cause.signature:.180}"
    here = cause.jobs.get(suite, ())
    if not ticket and here:
        yield Action("open", cause, "", title, _render(cause, jobs, run), jobs=jobs)
    elif ticket and not ticket.open and here:
        comment = f"The cause is back in run {run.folder.name}: {pluralize(len(here), 'job')}."
        yield Action("reopen", cause, ticket.ref, title, _render(cause, jobs, run), comment, jobs)
    elif ticket and ticket.open and not jobs:
        comment = f"No job has this cause any more, as of run {run.folder.name}."
        yield Action("close", cause, ticket.ref, title, _render(cause, ticket.jobs, run), comment)
    elif ticket and ticket.open and here and (jobs != ticket.jobs or ticket.run != run.folder.name):
        yield Action("update", cause, ticket.ref, title, _render(cause, jobs, run), _compare(ticket.jobs, jobs), jobs)


def _compare(before: Sequence[str], now: Sequence[str]) -> str:
    new, gone = [job for job in now if job not in before], [job for job in before if job not in now]
    parts = [f"{pluralize(len(jobs), 'job')} {verb}: {_quote(jobs)}" for jobs, verb in ((new, "more"), (gone, "fewer")) if jobs]
    return "; ".join(parts)


def _render(cause: Cause, jobs: Sequence[str], run: record.Record) -> str:
    """Return the body of a ticket in Markdown. Texts of models are in code blocks, so that none of them is read as markup or a name."""
    example = next((result for result in run.results() if result.id in jobs and result.problems), None)
    here = [job for job in jobs if job in run.ids]
    lines = [_fence(cause.signature), "", f"{pluralize(len(jobs), 'job')}: {_quote(jobs)}", "",
             f"First seen in run {make_code(cause.first)}, last in {make_code(cause.last)}."]  # fmt: skip
    if example:
        lines += ["", f"The first problem of {make_code(example.id)}:", "", _fence(str(example.problems[0])[:2000])]
    if here:
        lines += ["", "Run it again:", "", _fence(record.make_rerun_command(run, here[:1]))]
    if cause.notes:
        lines += ["", "Notes:", "", *(_fence(f"{note.at[:10]} {note.by}: {note.text}") for note in cause.notes)]
    return "\n".join([*lines, "", make_marker(cause)])


def make_marker(cause: Cause) -> str:
    """Return the line that marks a ticket as that of a cause, by which a tracker finds it again."""
    return f"<!-- shapeline cause {cause.id} -->"


def _fence(text: str) -> str:
    mark = "`" * max(3, 1 + max(map(len, re.findall("`+", text)), default=0))
    return "\n".join([f"{mark}text", *text.strip().splitlines(), mark])


def _quote(jobs: Sequence[str]) -> str:
    listed = ", ".join(make_code(job) for job in jobs[:LISTED])
    return f"{listed} and {len(jobs) - LISTED} more" if len(jobs) > LISTED else listed
