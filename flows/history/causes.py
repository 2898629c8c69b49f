"""Causes of failures across the runs of a folder: the jobs that have each one now, its notes, and its ticket."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from flows.report import clusters
from flows.report.clusters import Note
from flows.runs.record import Record
from lowering import files
from lowering.errors import ConfigError, Problem
from lowering.fitting import find_misfit
from lowering.plain import from_plain, to_plain
from lowering.record.result import UNJUDGED, JobResult

FILE, LOCK, SCHEMA = "causes.json", ".causes.lock", 1
SHOWN = 8  # causes listed in an error


@dataclass(frozen=True)
class Ticket:
    """The ticket of a cause. suites: those whose nights follow it; jobs, run: the jobs and the run that it reported last."""

    ref: str
    open: bool
    suites: tuple[str, ...]
    jobs: tuple[str, ...] = ()
    run: str = ""


@dataclass(frozen=True)
class Cause:
    """A cause, by the signature of its failures. first, last: runs that had it; gone: the run in which its last job no longer had it.

    jobs: by suite, the jobs that had it when they were last judged.
    """

    signature: str
    first: str
    last: str
    jobs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    gone: str = ""
    notes: tuple[Note, ...] = ()
    ticket: Ticket | None = None

    @property
    def id(self) -> str:
        return clusters.make_id(self.signature)


@dataclass(frozen=True)
class State:
    """causes.json. causes: by id; followed: the start of the newest run of each suite that the causes reflect."""

    causes: Mapping[str, Cause] = field(default_factory=dict)
    followed: Mapping[str, str] = field(default_factory=dict)
    schema: int = SCHEMA


def read(runs: Path) -> State:
    """Return the state of the folder `runs`. Raises ConfigError if its file is damaged: it holds notes, so it is not rebuilt."""
    try:
        data = files.read(runs / FILE)
    except FileNotFoundError:
        return State()
    except (OSError, ValueError) as error:
        raise _make_error(runs, str(error)) from error
    if misfit := find_misfit(State, data):
        raise _make_error(runs, misfit)
    if data.get("schema") != SCHEMA:
        raise _make_error(runs, f"has schema {data.get('schema')!r:.40}, but this version reads schema {SCHEMA}")
    return from_plain(State, data)  # type: ignore[no-any-return]


def change(runs: Path, make: Callable[[State], State]) -> State:
    """Replace the state by what `make` makes of it, under a lock, and return it. Raises ConfigError and OSError."""
    if not runs.is_dir():
        raise ConfigError(Problem(str(runs), "has no runs", "make one with shapeline run"))
    with os.fdopen(files.open_lock(runs / LOCK), "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        before = read(runs)
        after = make(before)
        if after != before:
            files.write(runs / FILE, to_plain(after))
    return after


def follow(run: Record, results: Sequence[JobResult]) -> dict[str, Cause]:
    """Update the causes to a run, and return those that the run has, by signature. Raises ConfigError and OSError.

    A run older than one already followed changes nothing.
    """
    state = change(run.folder.parent, lambda state: update(state, run.data, results))
    present = {clusters.make_signature(result) for result in results} - {""}
    return {cause.signature: cause for cause in state.causes.values() if cause.signature in present}


def update(state: State, run: Mapping[str, Any], results: Sequence[JobResult]) -> State:
    """Return the state after a run. run: the data of run.json.

    A job still has its cause if the run does not judge it: it ended in `infra` or did not run, the run stopped at an earlier level, or
    has only a part of the suite. A job that is not in a whole run any more has no cause.
    """
    suite, name, started = str(run["suite"]), str(run["run"]), str(run["started"])
    if started < state.followed.get(suite, ""):
        return state
    now: dict[str, list[str]] = {}
    for result in results:
        if signature := clusters.make_signature(result):
            now.setdefault(signature, []).append(result.id)
    ended = {result.id: result for result in results}
    partial, shortened = not run.get("whole", True), bool((run.get("config") or {}).get("until"))
    causes = {}
    for key, cause in state.causes.items():
        if suite in cause.jobs:
            kept = [job for job in cause.jobs[suite] if _is_open(cause.signature, ended.get(job), partial, shortened)]
            cause = _set_jobs(cause, suite, [*now.get(cause.signature, ()), *kept], name)
        if not cause.gone or cause.notes or cause.ticket:
            causes[key] = cause
    for signature, jobs in now.items():
        key = clusters.make_id(signature)
        cause = causes.get(key) or Cause(signature, name, name)
        causes[key] = replace(_set_jobs(cause, suite, [*jobs, *cause.jobs.get(suite, ())], name), last=name)
    return State(causes, {**state.followed, suite: started})


def _is_open(signature: str, result: JobResult | None, partial: bool, shortened: bool) -> bool:
    """Return whether a job may still have the cause `signature`, as this run did not judge it.

    partial: the run has a part of the suite only; shortened: it stopped at an earlier level.
    """
    if result is None:
        return partial
    if result.outcome in UNJUDGED:
        return signature.split(" ", 1)[0] not in UNJUDGED
    return shortened and result.outcome == "ok"


def _set_jobs(cause: Cause, suite: str, jobs: Sequence[str], run: str) -> Cause:
    found = {**cause.jobs, suite: tuple(sorted(set(jobs)))}
    found = {name: members for name, members in found.items() if members}
    return replace(cause, jobs=found, gone="" if found else cause.gone or run)


def add_note(runs: Path, name: str, text: str, by: str) -> Cause:
    """Add a note to the cause `name`, its id or a part of its signature, and return the cause. Raises ConfigError and OSError."""
    note = Note(text.strip(), by, datetime.now(UTC).isoformat(timespec="seconds"))

    def add(state: State) -> State:
        cause = find(state, name, runs)
        return _put(state, replace(cause, notes=(*cause.notes, note)))

    return find(change(runs, add), name, runs)


def drop_notes(runs: Path, name: str) -> Cause:
    """Remove the notes of a cause, and return the cause. Raises ConfigError and OSError."""
    return find(change(runs, lambda state: _put(state, replace(find(state, name, runs), notes=()))), name, runs)


def set_ticket(runs: Path, key: str, ticket: Ticket) -> None:
    """Record the ticket of the cause with the id `key`. Raises ConfigError and OSError."""
    change(runs, lambda state: _put(state, replace(state.causes[key], ticket=ticket)))


def find(state: State, name: str, runs: Path) -> Cause:
    """Return the cause with the id `name`, or the only one whose signature contains it. Raises ConfigError, listing the causes."""
    word = name.strip().lower()
    exact = state.causes.get(word)
    matches = [exact] if exact else [cause for cause in state.causes.values() if word and word in cause.signature.lower()]
    if len(matches) == 1:
        return matches[0]
    shown = (matches or sorted(state.causes.values(), key=lambda cause: cause.gone))[:SHOWN]
    listed = "; ".join(f"{cause.id} ({cause.signature:.80})" for cause in shown)
    cause = f"is part of the signatures of {len(matches)} causes" if matches else "is neither the id of a cause nor a part of its signature"
    raise ConfigError(Problem(f"cause '{name}'", cause, f"name one of {listed}" if listed else f"no failed job was recorded in {runs}"))


def _put(state: State, cause: Cause) -> State:
    return replace(state, causes={**state.causes, cause.id: cause})


def _make_error(runs: Path, cause: str) -> ConfigError:
    key, _, why = cause.partition(": ")
    fix = "restore it, or remove it to start without notes and tickets"
    return ConfigError(Problem(f"{runs / FILE} {key}" if why else str(runs / FILE), why or cause, fix))
