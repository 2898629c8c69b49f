"""Comparison of a run with an earlier one: the changes of each job, by kind, some of which are regressions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from flows.history import noise
from flows.history.database import Past
from flows.report.exports import is_kept
from lowering.markdown import escape_cell, escape_line, make_code
from lowering.record.result import UNJUDGED

EARLIER = 10  # earlier runs from which noise and flakiness are judged
FLIPS = 2  # changes of a job's verdict within these runs that make the job flaky
Row = dict[str, str]
Job = Mapping[str, Any]
# kind -> (title, whether it is a regression), in display order
KINDS = {
    "new_failures": ("New failures", True),
    "earlier_stage": ("Fail at an earlier stage", True),
    "dims_lost": ("Dims newly specialized or lost", True),
    "slower": ("Slower", True),
    "larger": ("More memory", True),
    "flaky": ("Flaky: outcome changes repeatedly", False),
    "infra": ("Ended by the infrastructure, no verdict", False),
    "other_failure": ("Fail differently", False),
    "still_failing": ("Still failing", False),
    "missing": ("Missing jobs", False),
    "new": ("New jobs", False),
    "fixed": ("Fixed", False),
    "dims_changed": ("Dims with another verdict", False),
    "ir": ("IR changed", False),
    "faster": ("Faster", False),
    "smaller": ("Less memory", False),
}


@dataclass
class Changes:
    """The differences between two runs. kinds: rows by kind (job, what, was, now, note); summary: totals over the jobs in both runs."""

    old: Mapping[str, Any]
    new: Mapping[str, Any]
    kinds: dict[str, list[Row]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    summary: str = ""

    @property
    def regression(self) -> bool:
        return any(self.kinds[kind] for kind, (_, bad) in KINDS.items() if bad)

    @property
    def empty(self) -> bool:
        """Whether nothing changed. A persistent failure is not a change."""
        return not any(rows for kind, rows in self.kinds.items() if kind != "still_failing")

    def add(self, kind: str, job: str, what: str = "", was: str = "", now: str = "", note: str = "") -> None:
        self.kinds[kind].append({"job": job, "what": what, "was": was, "now": now, "note": note})

    def to_json(self) -> dict[str, Any]:
        named = ("run", "suite", "started")
        return {
            "old": {name: self.old[name] for name in named}, "new": {name: self.new[name] for name in named},
            "regression": self.regression, "summary": self.summary,
            "kinds": [{"kind": kind, "title": title, "bad": bad, "rows": self.kinds[kind]} for kind, (title, bad) in KINDS.items()],
        }  # fmt: skip


def compare(old: Mapping[str, Any], new: Mapping[str, Any], earlier: Mapping[str, Sequence[Past]] | None = None) -> Changes:
    """Compare two runs, given as the data of their report.json.

    earlier: by job, its results in the runs before `new`, from which noise and flakiness are judged.
    """
    found, past = Changes(old, new), earlier or {}
    before, after = ({job["id"]: job for job in run["jobs"]} for run in (old, new))
    for name, job in before.items():
        if name not in after:
            found.add("missing", name, was=_format_end(job))
    for name, job in after.items():
        if name not in before:
            found.add("new", name, now=_format_end(job), note=_format_cause(job))
            continue
        _compare_outcome(found, name, before[name], job, past.get(name, ()))
        if job["outcome"] not in UNJUDGED and before[name]["outcome"] not in UNJUDGED:
            _compare_dims(found, name, before[name], job)
            _compare_levels(found, name, before[name], job)
            _compare_cost(found, name, before[name], job, past.get(name, ()))
    found.summary = _summarize(before, after)
    return found


def _compare_outcome(found: Changes, name: str, old: Job, new: Job, past: Sequence[Past]) -> None:
    if new["outcome"] in UNJUDGED:
        if new["outcome"] == old["outcome"]:
            return
        found.add("infra", name, was=_format_end(old), now=_format_end(new), note=_format_cause(new))
        return
    judged = [one.as_expected for one in past if one.outcome not in UNJUDGED]
    good = _is_as_expected(new)
    was_good = _is_as_expected(old) if old["outcome"] not in UNJUDGED else judged[-1] if judged else None
    flaky = sum(one != other for one, other in pairwise(judged)) >= FLIPS
    cells: dict[str, str] = {"was": _format_end(old), "now": _format_end(new), "note": "" if good else _format_cause(new)}
    if was_good is None:
        if not good:
            found.add("new", name, what="first result", **cells)
    elif was_good != good:
        found.add("flaky" if flaky else "fixed" if good else "new_failures", name, **cells)
    elif not good and old["outcome"] not in UNJUDGED:
        ran_old, ran_new = len(old["stages"]), len(new["stages"])
        if (old["outcome"], old["stage"]) == (new["outcome"], new["stage"]):
            found.add("still_failing", name, **cells)
        else:
            found.add("earlier_stage" if ran_new < ran_old else "other_failure", name, **cells)


def _compare_dims(found: Changes, name: str, old: Job, new: Job) -> None:
    before, after = ({dim["id"]: dim for dim in (job["symbols"] or {}).get("requested", ())} for job in (old, new))
    for dim, was in before.items():
        if (now := after.get(dim)) is None:
            continue
        if _format_verdict(was) != _format_verdict(now):
            kind = "dims_lost" if is_kept(was) and not is_kept(now) else "dims_changed"
            line = now.get("line") or {}
            place = f"{line['file']}:{line['line']}" if line else ""
            found.add(kind, name, dim, _format_verdict(was), _format_verdict(now),
                      "; ".join(part for part in (now.get("why", ""), place) if part))


def _compare_levels(found: Changes, name: str, old: Job, new: Job) -> None:
    before = {level["stem"]: level["digest"] for level in old.get("levels", ())}
    changed = [level for level in new.get("levels", ()) if before.get(level["stem"], level["digest"]) != level["digest"]]
    if changed:
        first, *others = [level["stem"] for level in changed]
        note = f"and so {', '.join(others)}" if others else "no level below"
        found.add("ir", name, first, before[first], changed[0]["digest"], note)


def _compare_cost(found: Changes, name: str, old: Job, new: Job, past: Sequence[Past]) -> None:
    """Compare time and memory of the jobs that ended the same way and took no result from the store, which would cost nothing."""
    if old["outcome"] != new["outcome"] or old["stage"] != new["stage"] or _is_cached(old) or _is_cached(new):
        return
    like = [one for one in past if one.outcome == new["outcome"] and not one.cached]
    costs: tuple[tuple[str, str, noise.Measure, list[float], float | None, float | None, Callable[[float], str]], ...] = (
        ("slower", "faster", noise.TIME, [one.seconds for one in like], old["seconds"], new["seconds"], lambda value: f"{value:.1f} s"),
        (
            "larger",
            "smaller",
            noise.MEMORY,
            [one.peak for one in like if one.peak],
            old["peak_rss_bytes"],
            new["peak_rss_bytes"],
            lambda value: f"{value / (1 << 20):,.0f} MiB",
        ),
    )
    for more, less, measure, before, was, now, shown in costs:
        if was is None or now is None:
            continue
        verdict = noise.judge(now, before or [was], measure)
        # Compare with the other run as well: a change that it already has would otherwise be reported every night.
        if (
            verdict.change
            and noise.judge(now, [was], noise.Measure(measure.part, measure.least / 2, 1 + measure.part)).change * verdict.change > 0
        ):
            what = "time" if more == "slower" else "peak"
            judged = f"{verdict.change / verdict.usual:+.0%} of the median of {verdict.runs} runs, noise {shown(verdict.margin)}"
            found.add(more if verdict.change > 0 else less, name, what, shown(was), shown(now), judged)


def render_markdown(changes: Changes, limit: int = 50) -> Iterator[str]:
    """Yield the lines of a Markdown page, with at most `limit` rows of each kind."""
    yield f"# {escape_line(changes.new['suite'])}: {_render_verdict(changes)}"
    yield ""
    yield f"{make_code(changes.old['run'])} → {make_code(changes.new['run'])}: {changes.summary}."
    for kind, (title, bad) in KINDS.items():
        if rows := changes.kinds[kind]:
            yield ""
            yield f"## {title} ({len(rows)}){' — regression' if bad else ''}"
            yield ""
            yield "| job | what | was | is | note |"
            yield "| --- | --- | --- | --- | --- |"
            for row in rows[:limit]:
                yield "| " + " | ".join(escape_cell(" ".join(text.split())) for text in row.values()) + " |"
            if len(rows) > limit:
                yield f"\nand {len(rows) - limit} more"


def text(changes: Changes, limit: int = 20) -> Iterator[str]:
    """Yield the lines for a terminal, with at most `limit` rows of each kind."""
    yield f"{changes.old['run']} -> {changes.new['run']}: {_render_verdict(changes)}"
    yield changes.summary
    for kind, (title, bad) in KINDS.items():
        if rows := changes.kinds[kind]:
            yield ""
            yield f"{title} ({len(rows)}){' [regression]' if bad else ''}"
            for row in rows[:limit]:
                step = " -> ".join(part for part in (row["was"], row["now"]) if part)
                yield "  " + "  ".join(" ".join(part.split()) for part in (row["job"], row["what"], step, row["note"]) if part)
            if len(rows) > limit:
                yield f"  and {len(rows) - limit} more"


def _render_verdict(changes: Changes) -> str:
    if changes.regression:
        bad = [(title.lower(), len(changes.kinds[kind])) for kind, (title, is_bad) in KINDS.items() if is_bad and changes.kinds[kind]]
        return "regressions: " + ", ".join(f"{count} {title}" for title, count in bad)
    return "nothing changed" if changes.empty else "no regression"


def _summarize(before: Mapping[str, Job], after: Mapping[str, Job]) -> str:
    """Return totals over the jobs that ended the same way in both runs, so that the totals are comparable."""
    both = [
        (before[name], job)
        for name, job in after.items()
        if name in before and job["outcome"] == before[name]["outcome"] and job["outcome"] not in UNJUDGED
    ]
    done = [(old, new) for old, new in both if not _is_cached(old) and not _is_cached(new)]
    was, now = sum(old["seconds"] for old, _ in done), sum(new["seconds"] for _, new in done)
    share = f" ({now / was - 1:+.0%})" if was else ""
    jobs = f"{len(both)} job{'' if len(both) == 1 else 's'} ended the same way in both runs"
    return f"{jobs}; stages of the {len(done)} not taken from the store: {was:.1f} s -> {now:.1f} s{share}" if done else jobs


def _is_as_expected(job: Job) -> bool:
    return bool(job.get("as_expected", job["outcome"] == job["expected"]))


def _format_end(job: Job) -> str:
    return "ok" if job["outcome"] == "ok" else f"{job['outcome']} in {job['stage']}"


def _format_cause(job: Job) -> str:
    problem = (job["problems"] or [{"place": "", "cause": ""}])[0]
    return f"{problem['place']}: {problem['cause']}".strip(": ").splitlines()[0][:200] if problem["place"] or problem["cause"] else ""


def _format_verdict(dim: Mapping[str, Any]) -> str:
    value = {"specialized": dim.get("value"), "never_symbol": dim.get("value"), "derived": dim.get("expr")}.get(dim["verdict"])
    lost = f", lost at {dim['lost_at']}" if dim.get("lost_at") else ""
    return f"{dim['verdict']}{'' if value is None else f' {value}'}{lost}"


def _is_cached(job: Job) -> bool:
    return any(stage["cache"] == "hit" for stage in job["stages"])
