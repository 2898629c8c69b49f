"""`shard=i/n`: the part of a suite that one of n machines runs; all parts together are the suite, each job once."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from flows.output import REPORT
from lowering import files
from lowering.errors import Problem

_SHARD = re.compile(r"(\d+)/(\d+)")


def parse(text: str) -> tuple[int, int]:
    """`2/4` as (2, 4); ValueError says what is wrong with it."""
    match = _SHARD.fullmatch(text.strip())
    if match is None:
        raise ValueError(f"'{text}' is not i/n")
    number, count = int(match[1]), int(match[2])
    if not 1 <= number <= count:
        raise ValueError(f"'{text}' is none of 1/{count} to {count}/{count}")
    return number, count


def durations(path: Path) -> dict[str, float]:
    """Seconds by job id: of a run's folder or report.json (jobs that were taken from the store say nothing), or of plain JSON.

    Raises OSError and ValueError.
    """
    data = files.read(path / REPORT if path.is_dir() else path)
    if isinstance(data, Mapping) and isinstance(data.get("jobs"), list):
        ran = [job for job in data["jobs"] if any(stage["cache"] != "hit" for stage in job["stages"])]
        return {job["id"]: float(job["seconds"]) for job in ran if job["seconds"]}
    if isinstance(data, Mapping) and all(isinstance(value, int | float) for value in data.values()):
        return {str(job): float(seconds) for job, seconds in data.items()}
    raise ValueError("holds neither a report nor seconds by job")


def split(jobs: Sequence[str], count: int, known: Mapping[str, float]) -> list[list[str]]:
    """`jobs` in `count` parts of about equal seconds, each in the order given; an unknown job takes as long as the median known one.

    The same for the same set of jobs, however it is ordered: machines that share nothing but the configuration agree.
    """
    usual = median([known[job] for job in jobs if job in known] or [1.0])
    loads, part = [0.0] * count, dict.fromkeys(jobs, 0)
    for job in sorted(jobs, key=lambda job: (-known.get(job, usual), job)):
        lightest = min(range(count), key=lambda number: (loads[number], number))
        loads[lightest] += known.get(job, usual)
        part[job] = lightest
    return [[job for job in jobs if part[job] == number] for number in range(count)]


def chosen(jobs: Sequence[str], shard: str | None, source: str | None, places: Mapping[str, str]) -> tuple[list[str], list[Problem]]:
    """The jobs of one shard, with the durations of `source`; places: where `shard` and `durations` were said."""
    known: dict[str, float] = {}
    problems = []
    if source is not None:
        try:
            known = durations(Path(source).expanduser())
        except (OSError, ValueError, KeyError, TypeError) as error:
            fix = "a run's folder, its report.json, or JSON with seconds by job id"
            problems.append(Problem(places["durations"], f"{source} cannot be read: {error}", fix))
    if shard is None:
        return list(jobs), problems
    try:
        number, count = parse(shard)
    except ValueError as error:
        return list(jobs), [*problems, Problem(places["shard"], str(error), "the first of four shards is 1/4")]
    if count > len(jobs) > 0:
        problems.append(Problem(places["shard"], f"{count} shards of {len(jobs)} jobs leave some empty", f"at most {len(jobs)}"))
        return list(jobs), problems
    return split(jobs, count, known)[number - 1], problems
