"""The outcome of a run for other programs: junit.xml by the rules of its schema, CSV, JSON lines."""

from __future__ import annotations

import csv
import json
import re
from typing import Any
from xml.etree import ElementTree

import pytest

from flows import exports, record, report
from flows.config import Run
from flows.record import Record
from lowering import pipeline
from lowering.result import UNSPECIFIED, Expectation
from tests import toys

WAYS = {"good": "ok", "bad": "raise", "known": "unsupported", "new": "load error", "lost": "infra"}
EXPECTED = {"known--default": Expectation("unsupported", "script", "waits for a kernel"), "new--default": Expectation(UNSPECIFIED)}
# The xUnit plugin's junit-10.xsd: of each element the children, the attributes it must have, and those it may have.
SCHEMA: dict[str, tuple[set[str], set[str], set[str]]] = {
    "testsuites": ({"testsuite"}, set(), {"name", "time", "tests", "failures", "errors"}),
    "testsuite": ({"testsuite", "properties", "testcase", "system-out", "system-err"}, {"name", "tests", "failures", "errors"},
                  {"group", "time", "skipped", "timestamp", "hostname", "id", "package", "file", "log", "url"}),
    "testcase": ({"skipped", "error", "failure", "rerunFailure", "rerunError", "flakyFailure", "flakyError", "system-out", "system-err"},
                 {"name"}, {"time", "classname", "group"}),
    "properties": ({"property"}, set(), set()),
    "property": (set(), {"name", "value"}, set()),
    **{name: (set(), set(), {"type", "message"}) for name in ("failure", "error", "skipped")},
}
TEXT = {"failure", "error", "skipped"}
TIME = re.compile(r"(([0-9]{0,3},)*[0-9]{3}|[0-9]{0,3})*(\.[0-9]*)?")


def faults(element: ElementTree.Element) -> list[str]:
    """What the schema does not allow in `element` and below."""
    children, must, may = SCHEMA[element.tag]
    given = set(element.keys())
    found = [f"{element.tag} has no {name}" for name in must - given]
    found += [f"{element.tag} has {name}" for name in given - must - may]
    found += [f"{element.tag} holds {child.tag}" for child in element if child.tag not in children]
    if element.tag not in TEXT and (element.text or "").strip():
        found.append(f"{element.tag} holds text")
    if element.tag in ("testsuite", "testsuites") and not TIME.fullmatch(element.get("time", "")):
        found.append(f"{element.tag} time {element.get('time')}")
    return found + [fault for child in element if child.tag in children for fault in faults(child)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """A finished run with every kind of ending, of two values of one axis."""
    jobs = tuple(toys.job(how, name) for name, how in WAYS.items())
    axes = {job.id: {"symbols.batch.max": number % 2 + 1, "stages.script.how": job.model.name} for number, job in enumerate(jobs)}
    begun = record.begin(Run("toys", jobs, output=tmp_path_factory.mktemp("out"), expected=EXPECTED, axes=axes))
    for job in jobs:
        pipeline.run(job, begun.job_folder(job.id)).save(begun.job_folder(job.id))
    report.write(begun, 3.0)
    return begun


def test_junit_follows_its_schema(run: Record) -> None:
    root = ElementTree.parse(run.folder / "junit.xml").getroot()
    assert faults(root) == []
    assert faults(ElementTree.fromstring('<testsuites><testcase classname="x" line="1"/></testsuites>')) != []


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


def test_what_xml_cannot_hold_is_replaced() -> None:
    job: dict[str, Any] = {"id": "a--b", "model": "a", "variant": "b", "outcome": "error", "stage": "x", "expected": "ok", "as_expected": False,
                           "seconds": 1.0, "problems": [{"place": "", "cause": "\x00 <&> \ufffe", "fix": ""}], "stages": [], "symbols": {},
                           "peak_rss_bytes": None, "folder": "jobs/a--b", "log": "log.txt", "expect": {"outcome": "ok", "stage": "", "reason": ""}}
    data = {"suite": "s", "started": "2026-01-01T00:00:00", "environment": {"machine": {"host": "h"}}, "jobs": [job]}
    root = ElementTree.fromstring(exports.junit(data))
    assert next(root.iter("failure")).text == "\ufffd <&> \ufffd"


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
