"""Blockers: what stands between the failed jobs of a run and MHLO, and the order of fixes that unlocks the most jobs first.

A blocker is one construct with one cause, such as `aten.nonzero: its size depends on data`. A job is blocked by every problem that its last
stage listed. Problems that later stages would find are unknown, so a fixed job may still stop at a later stage.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from flows.report import clusters
from lowering.errors import Problem
from lowering.markdown import pluralize, table
from lowering.record.result import UNJUDGED, JobResult

SHOWN = 20  # rows in report.md
_OP = re.compile(r"(?:op )?'?(?P<name>[A-Za-z_]\w*(?:(?:\.|::)\w+)+|flex_attention)'?")


@dataclass(frozen=True)
class Blocker:
    """A construct with the cause why it is refused, in the order of fixes.

    blocks: jobs that have it among their problems; alone: of these, jobs without another blocker; occurrences: problems in all jobs;
    unlocks: jobs without a blocker once this and all earlier ones are fixed, that an earlier one did not unlock.
    """

    construct: str
    cause: str
    stages: tuple[str, ...]
    models: int
    occurrences: int
    blocks: tuple[str, ...]
    alone: tuple[str, ...]
    unlocks: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


_Key = tuple[str, str]


def find_blockers(results: Sequence[JobResult]) -> list[Blocker]:
    """Return the blockers of all jobs that did not end ok, expected or not. `infra` and `not_run` say nothing about a model."""
    failed = {result.id: result for result in results if result.outcome not in ("ok", *UNJUDGED) and result.problems}
    problems = {job: [_name_problem(problem) for problem in result.problems] for job, result in failed.items()}
    needed = {job: frozenset(keys) for job, keys in problems.items()}
    found = []
    for key, unlocked in _order_fixes(needed):
        blocked = tuple(job for job, keys in needed.items() if key in keys)
        found.append(Blocker(
            *key,
            stages=tuple(sorted({failed[job].stage for job in blocked})),
            models=len({failed[job].model for job in blocked}),
            occurrences=sum(keys.count(key) for keys in problems.values()),
            blocks=blocked,
            alone=tuple(job for job in blocked if len(needed[job]) == 1),
            unlocks=unlocked,
        ))  # fmt: skip
    return found


def _name_problem(problem: Problem) -> _Key:
    """Return construct and cause of a problem, without what varies between jobs. A place that names no op is dropped."""
    head = problem.place.split(" at ", 1)[0]
    match = _OP.match(head)
    construct = match["name"] if match and "/" not in head and not head.startswith("models.") else ""
    return construct, clusters.generalize(problem.cause.strip().split("\n", 1)[0])


def _order_fixes(needed: Mapping[str, frozenset[_Key]]) -> Iterator[tuple[_Key, tuple[str, ...]]]:
    """Yield each blocker with the jobs that it unlocks, greedily.

    The next fixes are the group of blockers, all of one job, that unlocks the most jobs per blocker; among equals, the group that blocks
    more jobs. Within a group, the blocker that unlocks the most jobs by itself comes first.
    """
    left: dict[frozenset[_Key], list[str]] = {}  # jobs by what they still need: far fewer groups than jobs
    for job, keys in needed.items():
        left.setdefault(keys, []).append(job)
    blocks = Counter(key for keys in needed.values() for key in keys)
    while left:
        gains = {group: sum(len(jobs) for keys, jobs in left.items() if keys <= group) / len(group) for group in left}
        best = min(left, key=lambda group: (-gains[group], -sum(blocks[key] for key in group) / len(group), sorted(group)))
        for _ in best:
            alone = Counter({next(iter(keys)): len(jobs) for keys, jobs in left.items() if len(keys) == 1})
            fix = min((key for key in best if any(key in keys for keys in left)), key=lambda key: (-alone[key], -blocks[key], key))
            yield fix, tuple(left.pop(frozenset({fix}), ()))
            rest: dict[frozenset[_Key], list[str]] = {}
            for keys, jobs in left.items():
                rest.setdefault(keys - {fix}, []).extend(jobs)
            left = rest


def render_lines(blockers: Sequence[Blocker]) -> Iterator[str]:
    """Yield the section of report.md; nothing if fewer than two jobs are blocked."""
    if len({job for blocker in blockers for job in blocker.blocks}) < 2:
        return
    yield ""
    yield "## What to fix first"
    yield ""
    yield "In this order, each fix unlocks the most jobs. A job counts as unlocked when all problems that its last stage listed are fixed."
    yield ""
    yield from table(make_rows(blockers[:SHOWN]))
    if len(blockers) > SHOWN:
        yield ""
        yield f"{pluralize(len(blockers) - SHOWN, 'further blocker')}: `shapeline blockers`."


def make_rows(blockers: Sequence[Blocker]) -> list[dict[str, Any]]:
    """Return a row per blocker: what it is, where, how many jobs it blocks, blocks alone, and unlocks, with the running total."""
    rows, total = [], 0
    for number, blocker in enumerate(blockers, 1):
        total += len(blocker.unlocks)
        rows.append({
            "#": number,
            "construct": blocker.construct,
            "cause": blocker.cause,
            "stage": ", ".join(blocker.stages),
            "occurrences": blocker.occurrences,
            "models": blocker.models,
            "blocks": len(blocker.blocks),
            "alone": len(blocker.alone),
            "unlocks": len(blocker.unlocks),
            "total": total,
        })  # fmt: skip
    return rows
