"""The outcome of a run for other programs: junit.xml by its schema, CSV, JSON lines."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import xmlschema

from flows.config.plan import Plan
from flows.config.run import Run
from flows.report import exports, report
from flows.runs.begin import begin
from flows.runs.record import Record
from lowering import pipeline
from lowering.errors import Problem
from lowering.record.result import UNSPECIFIED, Expectation, JobResult, StageResult
from tests import toys

WAYS = {"good": "ok", "bad": "raise", "known": "unsupported", "new": "load error", "lost": "infra"}
EXPECTED = {"known--default": Expectation("unsupported", "script", "waits for a kernel"), "new--default": Expectation(UNSPECIFIED)}
SCHEMA = Path(__file__).parents[2] / "junit-10.xsd"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """A finished run with every kind of ending, of two values of one axis."""
    jobs = tuple(toys.job(how, name) for name, how in WAYS.items())
    axes = {job.id: {"symbols.batch.max": number % 2 + 1, "stages.script.how": job.model.name} for number, job in enumerate(jobs)}
    begun = begin(Run(Plan("toys", output=tmp_path_factory.mktemp("out"), expected=EXPECTED, axes=axes), jobs))
    for job in jobs:
        pipeline.run(job, begun.job_folder(job.id)).save(begun.job_folder(job.id))
    report.write(begun, 3.0)
    return begun


def test_junit_follows_its_schema(run: Record) -> None:
    schema = xmlschema.XMLSchema(SCHEMA)
    assert [str(error) for error in schema.iter_errors(run.folder / "junit.xml")] == []
    said = [str(error.reason) for error in schema.iter_errors('<testsuites time="soon"><testcase classname="x" line="1"/></testsuites>')]
    assert any("pattern" in reason for reason in said), said
    assert any("testcase" in reason for reason in said), said


def test_junit_fails_what_fails_the_run_and_skips_what_does_not(run: Record) -> None:
    root = ElementTree.parse(run.folder / "junit.xml").getroot()
    endings = {case.get("classname"): [(child.tag, child.get("message")) for child in case] for case in root.iter("testcase")}
    assert endings == {
        "good": [],
        "bad": [("failure", "error in script")],
        "known": [("skipped", "unsupported in script, as expected: waits for a kernel")],
        "new": [("skipped", "load_error in script; no expectation yet")],
        "lost": [("error", "infra in script")],
    }
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("5", "1", "1")
    assert "größer als 例" in next(root.iter("failure")).text


def test_junit_has_stage_seconds_and_axes_as_properties(run: Record) -> None:
    root = ElementTree.parse(run.folder / "junit.xml").getroot()
    found = {item.get("name"): item.get("value") for item in root[1].iter("property")}
    assert {"outcome": "error", "stage": "script", "axis symbols.batch.max": "2"}.items() <= found.items()
    assert re.fullmatch(r"\d+\.\d{3}", found["seconds export"] or "")


def make_data(results: list[JobResult]) -> dict[str, Any]:
    """report.json's data of a run with these results, the i-th of `max: i`, on no machine in particular."""
    jobs = [{**result.to_json(), "axes": {"symbols.batch.max": number, "stages": "default"}, "folder": f"jobs/{result.id}"}
            for number, result in enumerate(results, 1)]
    return {"run": "20260101T000000Z-toys", "suite": "toys", "started": "2026-01-01T00:00:00+00:00",
            "environment": {"machine": {"host": "somewhere"}}, "jobs": jobs}


def ended(model: str, outcome: str, cause: str = "", expect: Expectation | None = None) -> JobResult:
    dims = [{"argument": "x", "dim": 0, "asked": "batch", "promised": {"lower": 1, "upper": 8}, "verdict": "dynamic"},
            {"argument": "x", "dim": 1, "asked": "seq", "promised": {"lower": 1, "upper": None}, "verdict": "specialized"}]
    stages = (StageResult("export", "ok", 1.25, ops={"aten.add.Tensor": 2}), StageResult("torch", outcome, 0.5))
    problems = (Problem("aten.one", cause, "decompose it"),) if cause else ()
    return JobResult(f"{model}--default", model, "default", outcome, "torch", expect or Expectation(), 1.75, 3 << 20, stages=stages,
                     symbols={"requested": dims}, verify={"max_abs": 1e-06, "max_rel": 0.25}, problems=problems)


RESULTS = [
    ended("good", "ok"),
    ended("bad", "error", 'größer, "quoted", <tagged> & cut\nin two'),
    ended("known", "unsupported", "has no lowering", Expectation("unsupported", "torch", "waits for a kernel")),
    ended("mended", "ok", expect=Expectation("mismatch", "verify", "rounds")),
    ended("new", "timeout", "took 900 s", Expectation(UNSPECIFIED)),
    ended("lost", "infra", "the disk is full"),
]


def test_the_whole_of_junit_and_of_the_table(golden: Callable[[str, str], None]) -> None:
    data = make_data(RESULTS)
    golden("junit.xml", exports.render_junit(data).decode())
    golden("jobs.csv", exports.render_csv(data))


def test_what_xml_cannot_hold_is_replaced() -> None:
    root = ElementTree.fromstring(exports.render_junit(make_data([ended("a", "error", "\x00 <&> \ufffe")])))
    assert (next(root.iter("failure")).text or "").startswith("aten.one: \ufffd <&> \ufffd")


def test_csv_has_a_row_a_job_and_a_column_an_axis(run: Record) -> None:
    with (run.folder / "jobs.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["job"], row["outcome"], row["as_expected"], row["axis symbols.batch.max"]) for row in rows][:3] == [
        ("good--default", "ok", "True", "1"), ("bad--default", "error", "False", "2"), ("known--default", "unsupported", "True", "1")]
    assert float(rows[0]["seconds export"]) >= 0
    assert rows[2]["cause"] == "aten.one: no"


def test_json_lines_are_the_jobs_of_the_report(run: Record) -> None:
    lines = [json.loads(line) for line in (run.folder / "jobs.jsonl").read_text().splitlines()]
    jobs = json.loads((run.folder / "report.json").read_text())["jobs"]
    assert lines == [{"run": run.folder.name, **job} for job in jobs]
