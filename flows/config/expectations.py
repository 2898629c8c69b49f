"""The expected outcomes of the jobs of a suite: one file per suite, checked against the suite's jobs."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import yaml

from flows.config import compose, yaml_files
from flows.config.compose import Folders
from flows.config.layers import Layer
from lowering.errors import ConfigError, Problem, suggest
from lowering.fitting import find_misfits
from lowering.plain import from_plain
from lowering.record.result import UNSPECIFIED, Expectation

GROUP = "expect"
Outcome = Literal["ok", "unsupported", "error", "mismatch", "crash", "timeout", "oom", "load_error"]  # OUTCOMES without UNJUDGED
EXPECTED: tuple[str, ...] = get_args(Outcome)


@dataclass(frozen=True)
class Ending:
    """An entry in full form. A bare outcome is short for an entry without stage and reason."""

    outcome: Outcome
    stage: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Expectations:
    """A file of configs/expect. expect: by job id, or by model for all of its jobs without an entry.

    strict: whether a job that passes although another outcome was expected makes the run fail.
    """

    strict: bool = True
    expect: Mapping[str, Outcome | Ending] = field(default_factory=dict)


def find_file(suite: Path, folders: Folders) -> Path:
    """Return the file of a suite's expectations: in `expect/` next to the folder `suite/`, or `NAME.expect.yaml` next to any other file."""
    for path in folders.paths:
        if suite.is_relative_to(path / "suite"):
            return path / GROUP / suite.relative_to(path / "suite")
    return suite.with_suffix(f".expect{suite.suffix}")


def read(file: Path) -> Expectations:
    """Read the expectations in `file`. Raises ConfigError with all of its problems: YAML, keys, outcomes, duplicate names."""
    label = compose.label_file(file)
    try:
        data = {**found} if isinstance(found := yaml_files.read(file, unique=False), dict) else found or {}
        root = yaml.compose(yaml_files.read_text(file), Loader=yaml.SafeLoader)
    except yaml_files.Unreadable as error:
        raise ConfigError(Problem(f"{label}:{error.line}" if error.line else label, f"cannot be read: {error}")) from None
    if isinstance(data, dict) and data.get("expect", {}) is None:
        data["expect"] = {}
    layer = Layer(label, data, file=file)
    problems = [Problem(layer.place(misfit.keys), misfit.cause, misfit.fix) for misfit in find_misfits(Expectations, data)]
    problems += [Problem(f"{label}:{line} {name}", f"is already given in line {first}", "remove one of them")
                 for name, line, first in _find_duplicates(root)]
    if problems:
        raise ConfigError(problems)
    entries = {name: from_plain(Ending, {"outcome": entry} if isinstance(entry, str) else entry)
               for name, entry in data.get("expect", {}).items()}
    return Expectations(data.get("strict", True), entries)


def read_for_plan(file: Path, jobs: Sequence[str], complete: bool) -> tuple[dict[str, Expectation], list[Problem]]:
    """Return what `file`, if it exists, expects of the jobs of its suite, and all problems.

    complete: whether `jobs` are all jobs of the suite, so that other names are errors.
    """
    if file.is_symlink() and not file.exists():
        return {}, [Problem(compose.label_file(file), "is a link to a file that does not exist", "remove it, or restore the file")]
    if not file.exists():
        return {}, []
    try:
        found = read(file)
    except ConfigError as error:
        return {}, list(error.problems)
    return match_jobs(found, jobs), find_unknown(found, file, jobs) if complete else []


def match_jobs(found: Expectations, jobs: Iterable[str]) -> dict[str, Expectation]:
    """Return the expectation of each job, by id; UNSPECIFIED for jobs without an entry."""
    return {job: _make_expectation(found, found.expect.get(job, found.expect.get(job.split("--")[0]))) for job in jobs}


def find_unknown(found: Expectations, file: Path, jobs: Collection[str]) -> list[Problem]:
    """Return a problem for each name that is neither a job nor a model of the suite."""
    models = dict.fromkeys(job.split("--")[0] for job in jobs)
    layer = Layer(compose.label_file(file), {"expect": found.expect}, file=file)
    return [Problem(layer.place(("expect", name)), f"the suite has no job or model '{name}'",
                    suggest(name, [*jobs, *models]) or "remove the entry, or update the file with shapeline update-expected")
            for name in found.expect if name not in jobs and name not in models]


def _make_expectation(found: Expectations, entry: Outcome | Ending | None) -> Expectation:
    if entry is None:
        return Expectation(UNSPECIFIED, strict=found.strict)
    ending = entry if isinstance(entry, Ending) else Ending(entry)
    return Expectation(ending.outcome, ending.stage, ending.reason, found.strict)


def _find_duplicates(root: yaml.Node | None) -> Iterator[tuple[str, int, int]]:
    """Yield (name, line, line of its first occurrence) for every repeated key of a mapping."""
    if not isinstance(root, yaml.MappingNode):
        return
    seen: dict[str, int] = {}
    for key, value in root.value:
        line = key.start_mark.line + 1
        if key.value in seen:
            yield key.value, line, seen[key.value]
        seen.setdefault(key.value, line)
        yield from _find_duplicates(value)


def to_data(expectation: Expectation) -> Any:
    """Return the entry of an expectation as plain data: the bare outcome if it has no stage and reason."""
    said = (("outcome", expectation.outcome), ("stage", expectation.stage), ("reason", expectation.reason))
    fields = {key: value for key, value in said if value}
    return expectation.outcome if len(fields) == 1 else fields
