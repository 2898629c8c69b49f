"""The record and the report of a run, written from what its jobs left behind."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from flows.config.document import Limits
from flows.config.plan import Plan
from flows.config.run import Run
from flows.report import report
from flows.runs import begin, record
from flows.runs.record import Record
from lowering import pipeline
from lowering.errors import ConfigError, InfraError
from lowering.job import Job
from tests import toys

HOW = {"good": "ok", "bad": "raise", "refused": "unsupported"}


def started(output: Path, *more: str) -> Record:
    jobs = tuple(toys.job(how, name=name) for name, how in HOW.items())
    return begin.begin(Run(Plan("toys", limits=Limits(7.0), output=output, overrides=("suite=toys", "select=a", *more)), jobs))


@pytest.fixture
def run(tmp_path: Path) -> Record:
    """A run of three jobs whose last one has left nothing."""
    begun = started(tmp_path)
    for name in ("good", "bad"):
        folder = begun.job_folder(f"{name}--default")
        pipeline.run(toys.job(HOW[name], name), folder).save(folder)
    return begun


def test_a_job_without_a_result_is_a_row_that_was_not_run(run: Record) -> None:
    report.write(run)
    rows = json.loads((run.folder / "report.json").read_text())["jobs"]
    assert [(row["model"], row["outcome"]) for row in rows] == [("good", "ok"), ("bad", "error"), ("refused", "not_run")]


def test_report_json_has_its_documented_keys(run: Record) -> None:
    report.write(run, 12.0)
    data = json.loads((run.folder / "report.json").read_text())
    assert {"schema", "run", "environment", "jobs"} <= set(data)
    assert {"id", "model", "variant", "outcome", "stage", "expected", "seconds", "peak_rss_bytes", "stages", "symbols", "warnings",
            "verify"} <= set(data["jobs"][0])
    assert {"name", "outcome", "seconds", "peak_rss_bytes", "cache", "artifact", "ops"} <= set(data["jobs"][0]["stages"][0])
    assert (run.folder / data["jobs"][0]["folder"] / data["jobs"][0]["stages"][0]["artifact"]).is_file()


def test_the_people_view_has_a_row_a_job_and_a_section_a_failure(run: Record) -> None:
    text = report.write(run, 12.0).read_text()
    assert text.startswith("# toys: 3 jobs: 1 ok, 1 error, 1 not_run\n")
    assert sum(line.startswith(("| good--", "| bad--", "| refused--")) and "about-to" not in line for line in text.splitlines()) == 3
    assert "### bad--default: error in script" in text
    assert "### good--default" not in text


def test_a_cell_cannot_break_its_table() -> None:
    lines = list(report.table([{"cause": "a | b\nc <d>"}]))
    assert lines[2] == "| a \\| b<br>c \\<d> |"


def test_a_report_can_be_written_again(run: Record) -> None:
    text = report.write(run, 12.0).read_text()
    (run.folder / "report.md").unlink()
    assert report.write(record.load(run.folder), 12.0).read_text() == text


def test_the_command_for_failures_selects_only_them(run: Record) -> None:
    assert record.make_rerun_command(run, ["bad--default"]) == "shapeline run suite=toys -k bad--default"
    assert record.make_rerun_command(run, run.ids) == "shapeline run suite=toys select=a"


def test_two_runs_of_one_second_are_separate(tmp_path: Path) -> None:
    folders = [started(tmp_path).folder for _ in range(3)]
    assert len(set(folders)) == 3
    assert (tmp_path / "runs" / "latest").resolve() == folders[-1]


def test_a_record_can_be_moved_and_loaded(run: Record, tmp_path: Path) -> None:
    moved = run.folder.rename(tmp_path / "elsewhere")
    assert [result.outcome for result in record.load(moved).results()] == ["ok", "error", "not_run"]
    assert (moved / "jobs" / "bad--default" / "repro.sh").stat().st_mode & 0o111


def test_a_prepared_job_is_one_json_file(run: Record) -> None:
    job = Job.from_json(json.loads((run.job_folder("bad--default") / "job.json").read_text()))
    assert job == toys.job("raise", "bad")


def test_a_folder_that_is_no_run_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"is not the folder of a run"):
        record.load(tmp_path)


def test_an_output_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file")
    with pytest.raises(InfraError, match=r"the run's record cannot be written"):
        started(tmp_path)


@pytest.mark.parametrize(("one", "other"), [("a/b", "a_b"), ("a b", "a_b"), ("ü", "ö"), ("x" * 300, "x" * 301)])
def test_folder_names_stay_distinct(one: str, other: str) -> None:
    assert record.make_folder_name(one) != record.make_folder_name(other)
    assert os.sep not in record.make_folder_name(one)
    assert len(record.make_folder_name(one)) < 200


def test_a_run_goes_on_with_what_a_machine_that_stopped_left_torn(tmp_path: Path) -> None:
    wanted = Run(Plan("toys", output=tmp_path), tuple(toys.job(name=name) for name in ("whole", "torn", "empty")))
    first = begin.begin(wanted)
    before = {job: (first.job_folder(job) / "job.json").read_bytes() for job in first.ids}
    (first.job_folder("torn--default") / "job.json").write_bytes(before["torn--default"][:-10])
    (first.job_folder("empty--default") / "repro.sh").write_bytes(b"")
    assert first.lock is not None
    os.close(first.lock)  # as when its process ended
    again = begin.begin(wanted)
    assert again.folder == first.folder
    assert {job: (again.job_folder(job) / "job.json").read_bytes() for job in again.ids} == before
    assert (again.job_folder("empty--default") / "repro.sh").read_text().startswith("#!/bin/sh\n")
