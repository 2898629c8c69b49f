"""Exports of a run for other programs, made from report.json: junit.xml, jobs.csv (one row per job), jobs.jsonl (one line per job)."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from lowering import files
from lowering.record.result import UNJUDGED
from lowering.symbols import reported

JUNIT, CSV, LINES = "junit.xml", "jobs.csv", "jobs.jsonl"
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # characters that XML 1.0 does not allow
Job = Mapping[str, Any]


def write(folder: Path, data: Mapping[str, Any], rows: Sequence[str]) -> None:
    """Write the three files to `folder`, the run's. data: the data of report.json; rows: the JSON of each job. Raises OSError."""
    files.write_bytes(folder / JUNIT, render_junit(data))
    files.write_bytes(folder / CSV, files.encode(render_csv(data)))
    run = files.encode_json({"run": data["run"]}, indent=None).removesuffix("}")
    files.write_bytes(folder / LINES, files.encode("".join(f"{run}, {row.removeprefix('{')}\n" for row in rows)))


def render_junit(data: Mapping[str, Any]) -> bytes:
    """Return junit.xml: a test suite with one test case for each job, as only suites have properties.

    The case passes, fails, errs (no verdict on the model), or is skipped (fails as expected, or has no expectation yet).
    Valid for the xUnit plugin's junit-10.xsd.
    """
    root = ElementTree.Element("testsuites", name=data["suite"])
    for job in data["jobs"]:
        case = ElementTree.Element("testcase", classname=job["model"], name=job["variant"], time=_format_seconds(job))
        counts = {"failures": 0, "errors": 0, "skipped": 0}
        if (ending := _find_ending(job)) is not None:
            kind, message = ending
            counts[{"failure": "failures", "error": "errors", "skipped": "skipped"}[kind]] = 1
            found = ElementTree.SubElement(case, kind, type=job["outcome"], message=_clean_text(message))
            found.text = _clean_text("\n".join(_format_problem(problem) for problem in job["problems"]))
        suite = ElementTree.SubElement(root, "testsuite", {
            "name": job["id"], "tests": "1", **{name: str(count) for name, count in counts.items()}, "time": _format_seconds(job),
            "timestamp": data["started"], "hostname": data["environment"]["machine"]["host"], "file": f"{job['folder']}/{job['log']}",
        })  # fmt: skip
        properties = ElementTree.SubElement(suite, "properties")
        for name, value in _list_properties(job):
            ElementTree.SubElement(properties, "property", name=name, value=_clean_text(value))
        suite.append(case)
    for name in ("tests", "failures", "errors"):
        root.set(name, str(sum(int(suite.get(name, 0)) for suite in root)))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"


# Some spreadsheets take full-width characters for these too.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def render_csv(data: Mapping[str, Any]) -> str:
    """Return jobs.csv: a row for every job, with a column for each axis (`axis KEY`) and the seconds of each stage (`seconds STAGE`)."""
    axes = dict.fromkeys(f"axis {key}" for job in data["jobs"] for key in job.get("axes", {}))
    stages = dict.fromkeys(f"seconds {stage['name']}" for job in data["jobs"] for stage in job["stages"])
    columns = ["run", "job", "model", "variant", *axes, "outcome", "stage", "expected", "as_expected", "seconds", "peak_rss_bytes",
               "warnings",
               "dims_dynamic", "dims_asked", "ops", "max_abs", "max_rel", "unverified", "verified_on", *stages, "cause"]
    rows = [dict.fromkeys(columns, "") | {"run": data["run"], **_make_row(job)} for job in data["jobs"]]
    return "".join(f"{format_csv_row(row)}\n" for row in (columns, *(list(row.values()) for row in rows)))


def format_csv_row(cells: Sequence[Any]) -> str:
    """Return a row. Texts that a spreadsheet may take for a formula, of which some skip a line end, begin with an apostrophe."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\r\n").writerow(
        [f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell for cell in cells])
    return text.getvalue().removesuffix("\r\n")  # the writer quotes only the characters of its line end


def count_dims(job: Job) -> tuple[int, int] | None:
    """Return how many of the requested dims stayed dynamic, and how many were requested; None if unknown."""
    requested = (job["symbols"] or {}).get("requested")
    if not requested:
        return None
    return sum(map(is_kept, requested)), len(requested)


def is_kept(dim: Mapping[str, Any]) -> bool:
    """Return whether the compiled program accepts any size of a requested dim, given as data of a record."""
    return reported.is_kept(dim["verdict"], dim.get("lost_at"))


def count_ops(job: Job) -> int | None:
    """Return the number of ops of the last level that the job reached."""
    counted = [sum(stage["ops"].values()) for stage in job["stages"] if stage["ops"]]
    return counted[-1] if counted else None


def _make_row(job: Job) -> dict[str, Any]:
    kept, asked = count_dims(job) or (None, None)
    same = ("model", "variant", "outcome", "stage", "expected", "as_expected", "seconds", "peak_rss_bytes")
    axes = {f"axis {key}": value if isinstance(value, str | int | float) else files.encode_json(value, indent=None)
            for key, value in job.get("axes", {}).items()}
    return {
        "job": job["id"], **{key: job[key] for key in same},
        "warnings": len(job["warnings"]), "dims_dynamic": kept, "dims_asked": asked, "ops": count_ops(job),
        "max_abs": job["verify"].get("max_abs"), "max_rel": job["verify"].get("max_rel"),
        "unverified": job["unverified"], "verified_on": job.get("verified_on", ""),
        **axes,
        **{f"seconds {stage['name']}": stage["seconds"] for stage in job["stages"]},
        "cause": _format_problem(job["problems"][0]) if job["problems"] else "",
    }  # fmt: skip


def _find_ending(job: Job) -> tuple[str, str] | None:
    """Return the junit.xml element of a job's outcome and its message; None for a job that passed."""
    said = f"{job['outcome']} in {job['stage']}"
    if job["outcome"] in UNJUDGED:
        return "error", said
    if not job["as_expected"]:
        return "failure", said if job["expected"] == "ok" else f"{said}, expected: {_format_expected(job)}"
    if job["outcome"] == "ok":
        return None
    reason = f"{said}, as expected: {job['expect']['reason']}" if job["expected"] == job["outcome"] else f"{said}; no expectation yet"
    return "skipped", reason


def _format_expected(job: Job) -> str:
    expect = job["expect"]
    return f"{expect['outcome']} in {expect['stage']}" if expect["stage"] else str(expect["outcome"])


def _list_properties(job: Job) -> Iterator[tuple[str, str]]:
    yield "outcome", job["outcome"]
    yield "stage", job["stage"]
    yield "expected", _format_expected(job)
    if job["unverified"]:
        yield "unverified", job["unverified"]
    if job.get("verified_on"):
        yield "verified_on", job["verified_on"]
    for stage in job["stages"]:
        yield f"seconds {stage['name']}", f"{stage['seconds']:.3f}"
    if job["peak_rss_bytes"]:
        yield "peak_rss_bytes", str(job["peak_rss_bytes"])
    for key, value in job.get("axes", {}).items():
        yield f"axis {key}", str(value)
    for dim in (job["symbols"] or {}).get("requested", ()):
        asked = dim["promised"]
        upper = "oo" if asked.get("upper") is None else asked["upper"]
        yield f"symbol {dim['argument']}[{dim['dim']}]", f"{dim['asked']} [{asked.get('lower')}, {upper}] {dim['verdict']}"


def _format_problem(problem: Mapping[str, str]) -> str:
    text = f"{problem['place']}: {problem['cause']}" if problem["place"] else problem["cause"]
    return f"{text} ({problem['fix']})" if problem["fix"] else text


def _format_seconds(job: Job) -> str:
    return f"{job['seconds']:.3f}"


def _clean_text(value: Any) -> str:
    return _UNPRINTABLE.sub("\ufffd", str(value))
