"""Tables of a sweep by axis: outcomes, dynamic dims and costs of every value, from the jobs of report.json."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any

from flows.config.slugs import spell
from flows.config.suite import VARIANT
from flows.report.exports import count_dims, count_ops
from lowering.markdown import escape_line, table

Job = Mapping[str, Any]


def make_tables(jobs: Sequence[Job]) -> dict[str, list[dict[str, Any]]]:
    """Return for each axis a row for every model and value, sorted by value. An axis is a dotted key with several values in some model.

    seconds, peak: medians over the jobs that ran, without those taken from the store. ops: of the last level, over the jobs that ended ok.
    """
    keys = dict.fromkeys(key for job in jobs for key in job.get("axes", {}) if key != VARIANT)
    found = {}
    for key in keys:
        models = dict.fromkeys(job["model"] for job in jobs)
        rows = [row for model in models for row in _make_rows([job for job in jobs if job["model"] == model], key)]
        if rows:
            found[key] = rows
    return found


def render_lines(found: Mapping[str, Sequence[dict[str, Any]]]) -> Iterator[str]:
    """Yield the section of report.md with these tables; nothing for a run without axes."""
    if found:
        yield ""
        yield "## By axis"
    for key, rows in found.items():
        yield ""
        yield f"### {escape_line(key)}"
        yield ""
        yield from table([row | {"value": spell(row["value"])} if row["value"] is None else row for row in rows])


def _make_rows(jobs: Sequence[Job], key: str) -> list[dict[str, Any]]:
    """Return a row for each value of the axis `key`; no rows if there is only one value."""
    groups: dict[str, list[Job]] = {}
    for job in sorted((job for job in jobs if key in job.get("axes", {})), key=lambda job: _make_sort_key(job["axes"][key])):
        groups.setdefault(spell(job["axes"][key]), []).append(job)
    if len(groups) < 2:
        return []
    return [{"model": members[0]["model"], "value": members[0]["axes"][key], "jobs": len(members), **_summarize(members)}
            for members in groups.values()]


def _summarize(jobs: Sequence[Job]) -> dict[str, Any]:
    ran = [job for job in jobs if any(stage["cache"] != "hit" for stage in job["stages"])]
    good = [job for job in jobs if job["outcome"] == "ok"]
    kept = [count for job in jobs if (count := count_dims(job)) is not None]
    other = Counter(f"{job['outcome']} in {job['stage']}" for job in jobs if job["outcome"] != "ok")
    return {
        "ok": len(good),
        "other": ", ".join(f"{count} {end}" for end, count in other.items()),
        "dims dynamic": f"{sum(count for count, _ in kept)} of {sum(asked for _, asked in kept)}" if kept else None,
        "seconds": _find_median(ran, lambda job: job["seconds"], 2),
        "peak MiB": _find_median(ran, lambda job: job["peak_rss_bytes"] and job["peak_rss_bytes"] / (1 << 20), 0),
        "ops": _find_median(good, count_ops, 0),
        "IR KiB": _find_median(good, _measure_text, 1),
    }


def _measure_text(job: Job) -> float | None:
    """Return the size of the last level's text in KiB."""
    sizes = [level["size"] for level in job.get("levels", ())]
    return sizes[-1] / 1024 if sizes else None


def _find_median(jobs: Iterable[Job], measure: Callable[[Job], float | None], digits: int) -> float | None:
    found = [value for job in jobs if (value := measure(job)) is not None]
    return (round(median(found), digits) if digits else round(median(found))) if found else None


def _make_sort_key(value: Any) -> tuple[int, float, str]:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return (0, float(value), "") if number else (1, 0.0, spell(value))
