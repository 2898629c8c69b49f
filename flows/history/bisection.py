"""Bisection: which of several versions first changed how a job ends. The search resumes from its file after an interruption."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from flows.report.exports import count_dims
from lowering import files
from lowering.errors import ConfigError, Problem
from lowering.fitting import find_misfit
from lowering.markdown import pluralize
from lowering.plain import from_plain, to_plain
from lowering.record.result import UNJUDGED

Verdict = Literal["good", "bad", "skip"]
Row = Mapping[str, Any]  # a job of report.json
Trial = Callable[[str], Row | str]  # runs the job at a version; a string says why it could not


@dataclass(frozen=True)
class Judge:
    """The criterion by which a job is judged. limit: of `numerics` the relative error, of `seconds` the time, beyond which it is bad.

    outcome: bad if the job does not end as it did at the good version; skipped if it fails for another reason than at the bad one.
    dims: bad if fewer dims stay dynamic. numerics: bad if a level differs from eager. seconds: bad if the stages take longer.
    """

    by: Literal["outcome", "dims", "numerics", "seconds"] = "outcome"
    limit: float | None = None

    def judge(self, row: Row, good: Row | None, bad: Row | None) -> Verdict:
        """Return the verdict on a result, given those at the good and the bad version as far as they are known."""
        if row["outcome"] in UNJUDGED:
            return "skip"
        if self.by == "outcome":
            return self._judge_outcome(row, good, bad)
        if row["outcome"] != "ok" and not (self.by == "numerics" and row["outcome"] == "mismatch"):
            return "skip"
        if self.by == "dims":
            kept, asked = count_dims(row) or (0, 0)
            expected = (count_dims(good) or (0, 0))[0] if good else asked
            return "bad" if kept < expected else "good"
        if self.by == "numerics":
            error = (row.get("verify") or {}).get("max_rel")
            beyond = self.limit is not None and not (isinstance(error, int | float) and error <= self.limit)
            return "bad" if row["outcome"] == "mismatch" or beyond else "good"
        return "bad" if self.limit is not None and row["seconds"] > self.limit else "good"

    @staticmethod
    def _judge_outcome(row: Row, good: Row | None, bad: Row | None) -> Verdict:
        wanted = (good["outcome"], good["stage"]) if good else ("ok", row["stage"])
        if (row["outcome"], row["stage"]) == wanted or row["outcome"] == wanted[0] == "ok":
            return "good"
        return "bad" if bad is None or row.get("signature") == bad.get("signature") else "skip"


@dataclass(frozen=True)
class Tried:
    """The verdict on a version, and how the job ended there."""

    verdict: Verdict
    end: str


@dataclass(frozen=True)
class Bisection:
    """A search. versions: oldest first, from the good one to the bad one. tried: the verdicts so far."""

    job: str
    versions: tuple[str, ...]
    judge: Judge
    tried: Mapping[str, Tried] = field(default_factory=dict)

    def narrow(self) -> tuple[int, int]:
        """Return the positions of the last version known as good and of the first known as bad."""
        bad = min((index for index, version in enumerate(self.versions) if self._is(version, "bad")), default=len(self.versions) - 1)
        good = max((index for index, version in enumerate(self.versions[:bad]) if self._is(version, "good")), default=0)
        return good, bad

    def choose_next(self) -> str | None:
        """Return the version to try next: the untried one nearest to the middle; None if the search has ended."""
        good, bad = self.narrow()
        open_ = [index for index in range(good + 1, bad) if self.versions[index] not in self.tried]
        middle = (good + bad) / 2
        return self.versions[min(open_, key=lambda index: abs(index - middle))] if open_ else None

    @property
    def suspects(self) -> tuple[str, ...]:
        """The versions of which one is the first bad one: a single one if none between was skipped."""
        good, bad = self.narrow()
        return self.versions[good + 1 : bad + 1]

    def _is(self, version: str, verdict: Verdict) -> bool:
        return version in self.tried and self.tried[version].verdict == verdict


def make_id(job: str, axis: str, versions: Sequence[str], judge: Judge, overrides: Sequence[str]) -> str:
    """Return the name of a search, equal for the same question."""
    asked = json.dumps([job, axis, list(versions), to_plain(judge), list(overrides)])
    return hashlib.sha256(files.encode(asked)).hexdigest()[:10]


def search(start: Bisection, file: Path, trial: Trial, good: Row | None, bad: Row | None, tell: Callable[[str], None]) -> Bisection:
    """Try versions until the first bad one is known, and return the ended search. Each verdict is saved in `file` at once.

    good, bad: the results at the ends, as far as they are known.
    Raises ConfigError if `file` is damaged, or an end is not what it is said to be.
    """
    for end, verdict in ((good, "good"), (bad, "bad")):
        if end and (found := start.judge.judge(end, good, bad)) != verdict:
            fix = "judge by something else: --by, --limit"
            raise ConfigError(Problem(f"--{verdict}", f"the job is {found} there: {_format_end(end)}", fix))
    now = replace(start, tried=_read_tried(file))
    if now.tried:
        tell(f"resumed: {pluralize(len(now.tried), 'version')} tried before")
    while (version := now.choose_next()) is not None:
        row = trial(version)
        tried = Tried("skip", row) if isinstance(row, str) else Tried(start.judge.judge(row, good, bad), _format_end(row))
        now = replace(now, tried={**now.tried, version: tried})
        files.write(file, {"job": now.job, "versions": list(now.versions), "tried": to_plain(dict(now.tried))})
        left = len(now.suspects)
        tell(f"{version[:40]}: {tried.verdict} ({tried.end}), {pluralize(left, 'version')} left")
    return now


def _read_tried(file: Path) -> dict[str, Tried]:
    try:
        data = files.read(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise ConfigError(Problem(str(file), f"cannot be read: {error}", "remove it to start the search again")) from error
    kind = Mapping[str, Tried]
    if misfit := find_misfit(kind, data.get("tried") if isinstance(data, Mapping) else data):
        raise ConfigError(Problem(str(file), misfit, "remove it to start the search again"))
    return dict(from_plain(kind, data["tried"]))


def _format_end(row: Row) -> str:
    if row["outcome"] == "ok":
        return f"ok, {row['seconds']:.1f} s"
    problems = row.get("problems") or ({"cause": ""},)
    return f"{row['outcome']} in {row['stage']}: {problems[0]['cause']}".split("\n", 1)[0][:120].removesuffix(": ")
