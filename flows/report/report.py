"""The report of a run: report.json for programs, report.md for readers, with a row for every job."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from flows.config.slugs import ENVIRONMENT
from flows.output import REPORT
from flows.report import blockers, buckets, by_axis, clusters, consumers, exports, flaky, levels, programs, quantization, remarks, verdicts
from flows.report.blockers import Blocker
from flows.runs import joined, record, shapes
from flows.runs.record import Record
from lowering import environments, files
from lowering.environments import Environment
from lowering.markdown import escape_item, escape_line, make_code, make_link
from lowering.markdown import pluralize as pluralize
from lowering.markdown import table as table
from lowering.plain import from_plain, to_plain
from lowering.record.folder import JOB, is_own
from lowering.record.joining import Joining
from lowering.record.result import OUTCOMES, UNSPECIFIED, JobResult

SCHEMA = 1
MARKDOWN = "report.md"


def write(run: Record, seconds: float | None = None) -> Path:
    """Write report.json and report.md from the current results of the jobs. Return the path of report.md. Raises OSError.

    `publish.write` also writes the pages that need the other runs.
    """
    write_results(run, run.results(), seconds)
    return run.folder / MARKDOWN


def write_results(run: Record, results: Sequence[JobResult], seconds: float | None,
                  causes: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """Write report.json, report.md and the exports from `results`, and return the data of report.json. Raises OSError.

    causes: what is known of the causes of failures from all runs, as `publish.describe_cause` makes it.
    """
    shapes.check(shapes.Whole, run.data, run.folder / record.RUN)
    data = to_json(run, results, seconds)
    data |= {"flaky": flaky.find_flaky(run, results), "by_axis": by_axis.make_tables(data["jobs"]),
             "blockers": [blocker.to_json() for blocker in blockers.find_blockers(results)], "causes": list(causes)}
    rows = [files.encode_json(job, indent=None) for job in data["jobs"]]
    files.write_bytes(run.folder / REPORT, files.encode(_format_rows(data, rows)))
    exports.write(run.folder, data, rows)
    files.write_bytes(run.folder / MARKDOWN, files.encode("\n".join(render_markdown(run, results, data)) + "\n"))
    return data


def _format_rows(data: Mapping[str, Any], rows: Sequence[str]) -> str:
    """Return the JSON of a report with one line per job: indenting thousands of jobs takes longer than the rest of the report."""
    head = files.encode_json({name: value for name, value in data.items() if name != "jobs"}).removesuffix("\n}")
    jobs = ",\n".join(f"  {row}" for row in rows)
    return f'{head},\n "jobs": [\n{jobs}\n ]\n}}\n'


def is_as_expected(folder: Path) -> bool:
    """Return whether every job of the finished run in `folder` ended as expected. Raises OSError."""
    return bool(files.read(folder / REPORT)["as_expected"])


def to_json(run: Record, results: Sequence[JobResult], seconds: float | None = None) -> dict[str, Any]:
    """Return the data of report.json. seconds: wall time of the run.

    `jobs` has one entry per job: its JobResult, its `folder`, to which its files are relative, the `signature` of its failure, and its IR
    files as `levels`.
    """
    found = joined.load_all(run)
    return {
        "schema": SCHEMA,
        "run": run.data["run"],
        "suite": run.data["suite"],
        "started": run.data["started"],
        "seconds": seconds,
        "overrides": run.data["overrides"],
        "environment": run.data["environment"],
        "environments": describe_environments(run),
        "outcomes": count_outcomes(results),
        "as_expected": find_unexpected(results) == [] and list_failed(found) == [],
        "programs": [to_plain(one) for one in found],
        "jobs": [_make_job(run, result) for result in results],
    }


def _make_job(run: Record, result: JobResult) -> dict[str, Any]:
    folder = run.job_folder(result.id)
    axes = run.rows[result.id].get("axes", {})
    return {**result.to_json(), "axes": axes, "folder": folder.relative_to(run.folder).as_posix(),
            "signature": clusters.make_signature(result),
            "levels": levels.to_json(folder)}


def describe_environments(run: Record) -> dict[str, dict[str, Any]]:
    """Return the environments of a suite by name: their requirements, and the versions installed for them.

    None: not on this machine, or the record is of somebody else."""
    found: dict[str, dict[str, Any]] = {}
    for job in run.ids:
        name = (run.rows[job].get("axes") or {}).get(ENVIRONMENT)
        if name is None or name in found:
            continue
        with suppress(OSError, ValueError, KeyError, TypeError):  # the job was never prepared, or its record is damaged
            data = files.read(run.job_folder(job) / JOB)
            asked = from_plain(Environment, data["environment"])
            # Requirements may name files, which are read to find the environment.
            installed = environments.list_versions(asked) if is_own(data) else None
            found[name] = {"requirements": list(asked.requirements), "installed": installed}
    return found


def list_failed(found: Sequence[Joining]) -> list[Joining]:
    """List the joined programs that could not be written, or differ from eager."""
    return [one for one in found if one.outcome != "ok"]


def count_outcomes(results: Sequence[JobResult]) -> dict[str, int]:
    """Return the number of jobs with each outcome that occurs, in the order of OUTCOMES."""
    counts = Counter(result.outcome for result in results)
    return {outcome: counts[outcome] for outcome in OUTCOMES if counts[outcome]}


def find_unexpected(results: Sequence[JobResult]) -> list[JobResult]:
    return [result for result in results if not result.as_expected]


def summarize(results: Sequence[JobResult]) -> str:
    """Return totals as text: `7 jobs: 5 ok, 1 crash, 1 timeout (2 unspecified)`."""
    parts = [f"{count} {outcome}" for outcome, count in count_outcomes(results).items()] or ["nothing ran"]
    new = sum(result.expected == UNSPECIFIED for result in results)
    return f"{pluralize(len(results), 'job')}: {', '.join(parts)}" + (f" ({new} unspecified)" if new else "")


def make_rows(results: Sequence[JobResult]) -> list[dict[str, Any]]:
    """Return the table of a run as plain data: job, outcome, stage, seconds, peak MiB, warnings, cause."""
    return [{
        "job": result.id,
        "outcome": result.outcome,
        "stage": result.stage,
        "seconds": round(result.seconds, 1),
        "peak MiB": result.peak_rss_bytes and result.peak_rss_bytes >> 20,
        "warnings": len(result.warnings),
        "cause": describe_cause(result),
    } for result in results]


def describe_cause(result: JobResult, limit: int = 160) -> str:
    """Return the first line of the first problem and the number of further ones.

    Without problems, return why the job is unverified or what was verified in its place, and its static dims.
    """
    said = "; ".join(filter(None, (f"unverified: {result.unverified}" if result.unverified else "",
                                   f"verified on {result.verified_on}" if result.verified_on else "", remarks.describe_lost(result))))
    lines = (str(result.problems[0]) if result.problems else said).strip().splitlines() or [""]
    text = lines[0] if len(lines[0]) <= limit else lines[0][: limit - 1] + "…"
    return text if len(result.problems) <= 1 else f"{text} (and {len(result.problems) - 1} more)"


def render_markdown(run: Record, results: Sequence[JobResult], report: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of report.md. report: the data of report.json."""
    seconds = report["seconds"]
    data = run.data
    yield f"# {escape_line(data['suite'])}: {summarize(results)}"
    yield ""
    took = "" if seconds is None else f", took {seconds:.0f} s with {pluralize(run.workers, 'job')} at a time"
    yield f"Run {make_code(data['run'])}, started {datetime.fromisoformat(data['started']):%Y-%m-%d %H:%M:%S} UTC{took}."
    yield ""
    yield from table(make_rows(results))
    yield from verdicts.render_lines(run, results, report["flaky"])
    yield from by_axis.render_lines(report["by_axis"])
    yield from consumers.render_lines(results)
    yield from quantization.render_lines(results)
    yield from buckets.render_lines(results)
    yield from programs.render_lines([from_plain(Joining, one) for one in report["programs"]])
    yield from blockers.render_lines([from_plain(Blocker, one) for one in report["blockers"]])
    failed = find_unexpected(results)
    if failed:
        yield ""
        yield "## Not as expected"
        yield ""
        yield f"Run them again: {make_code(record.make_rerun_command(run, [result.id for result in failed]))}"
        yield from clusters.render_lines(results, report["causes"])
        for result in failed:
            yield ""
            yield from render_page(result, run.job_folder(result.id).relative_to(run.folder).as_posix(), "###")
    if any(result.warnings for result in results):
        yield ""
        yield "## Warnings"
        yield ""
        yield from table(remarks.make_rows(results))
    yield ""
    yield "## Environment"
    yield ""
    environment = data["environment"]
    machine = environment["machine"]
    versions = ", ".join(f"{name} {version or 'missing'}" for name, version in environment["packages"].items())
    gpus = escape_line(", ".join(machine["gpus"]) or "none")
    yield f"- {escape_item(machine['cpu'])}, {pluralize(machine['cores'], 'core')}, {machine['memory_bytes'] >> 30} GiB; GPUs: {gpus}"
    yield f"- Python {escape_line(environment['python'])}, {escape_line(versions)}"
    for name, own in report["environments"].items():
        said = escape_line(", ".join(f"{package} {version}" for package, version in (own["installed"] or {}).items()))
        none = "no package of its own" if own["installed"] is not None else "not installed here"
        yield f"- environment {make_code(name)}: {said or none}"
    if environment["git"]:
        yield f"- commit {escape_line(environment['git']['commit'][:12])}{', modified' if environment['git']['modified'] else ''}"


def render_page(result: JobResult, folder: str = "", heading: str = "#") -> Iterator[str]:
    """Yield the Markdown page of a job: its outcome, problems and stages. folder: the base of the links to its files, if any."""
    yield f"{heading} {escape_line(result.id)}: {result.outcome} in {escape_line(result.stage)}"
    yield ""
    for problem in result.problems:
        yield f"- {escape_item(str(problem))}"
    if result.problems:
        yield ""
    if folder:
        log, repro = make_link("log", f"{folder}/{result.log}"), make_code(f"sh {folder}/{result.repro}")
        yield f"{log} · again: {repro} (from the run's folder)"
        yield ""
    yield from table([{
        "stage": stage.name,
        "outcome": stage.outcome,
        "seconds": round(stage.seconds, 2),
        "cpu": round(stage.cpu_seconds, 2),
        "peak MiB": stage.peak_rss_bytes and stage.peak_rss_bytes >> 20,
        "ops": sum(stage.ops.values()),
        "artifact": make_link(stage.artifact, f"{folder}/{stage.artifact}") if folder and stage.artifact else stage.artifact or "",
    } for stage in result.stages])
