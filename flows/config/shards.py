"""Shards of a suite, `shard=i/n`: the part that one of n machines runs. Each job is in exactly one shard."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from flows.output import REPORT
from lowering import files, paths
from lowering.errors import Problem

_SHARD = re.compile(r"(\d+)/(\d+)")


def parse(text: str) -> tuple[int, int]:
    """Parse `2/4` to (2, 4). Raises ValueError if the text is malformed or out of range."""
    match = _SHARD.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"'{text}' is not i/n")
    number, count = int(match[1]), int(match[2])
    if not 1 <= number <= count:
        raise ValueError(f"'{text}' is not one of 1/{count} to {count}/{count}")
    return number, count


def read_durations(path: Path) -> dict[str, float]:
    """Read seconds by job id from a run's folder, its report.json, or plain JSON.

    Jobs taken from the store are skipped. Raises OSError and ValueError.
    """
    data = files.read(path / REPORT if path.is_dir() else path)
    if isinstance(data, Mapping) and isinstance(data.get("jobs"), list):
        ran = [job for job in data["jobs"] if any(stage["cache"] != "hit" for stage in job["stages"])]
        return {job["id"]: float(job["seconds"]) for job in ran if job["seconds"]}
    if isinstance(data, Mapping) and all(isinstance(value, int | float) for value in data.values()):
        return {str(job): float(seconds) for job, seconds in data.items()}
    raise ValueError("contains neither a report nor seconds by job")


def split(jobs: Sequence[str], count: int, known: Mapping[str, float]) -> list[list[str]]:
    """Split `jobs` into `count` parts of about equal seconds, each in the given order. Unknown jobs count as the median of the known ones.

    The split does not depend on the order of `jobs`, so that machines that share only the configuration agree on it.
    """
    usual = median([known[job] for job in jobs if job in known] or [1.0])
    loads, part = [0.0] * count, dict.fromkeys(jobs, 0)
    for job in sorted(jobs, key=lambda job: (-known.get(job, usual), job)):
        lightest = min(range(count), key=lambda number: (loads[number], number))
        loads[lightest] += known.get(job, usual)
        part[job] = lightest
    return [[job for job in jobs if part[job] == number] for number in range(count)]


def choose_shard(jobs: Sequence[str], shard: str | None, source: str | None, places: Mapping[str, str]) -> tuple[list[str], list[Problem]]:
    """Return the jobs of one shard, balanced by the durations in `source`, and all problems.

    places: where `shard` and `durations` were set, for messages.
    """
    known: dict[str, float] = {}
    problems = []
    if source is not None:
        try:
            known = read_durations(paths.expand(source))
        except (OSError, ValueError, KeyError, TypeError) as error:
            fix = "name a run's folder, its report.json, or JSON with seconds by job id"
            problems.append(Problem(places["durations"], f"{source} cannot be read: {getattr(error, 'strerror', None) or error}", fix))
    if shard is None:
        return list(jobs), problems
    try:
        number, count = parse(shard)
    except ValueError as error:
        return list(jobs), [*problems, Problem(places["shard"], str(error), "the first of four shards is 1/4")]
    if count > len(jobs) > 0:
        problems.append(Problem(places["shard"], f"{count} shards of {len(jobs)} jobs leave some empty", f"use at most {len(jobs)}"))
        return list(jobs), problems
    return split(jobs, count, known)[number - 1], problems
