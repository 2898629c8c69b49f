"""The order of the ladder, and what a run of stages in this process records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lowering import ladder, pipeline
from lowering.errors import Problem
from lowering.job import Job
from lowering.record.measure import HIGH_WATER, read_peak_bytes, reset_peak
from lowering.record.result import JobResult
from tests import toys

GOOD = {"export": toys.Export(), "script": toys.Script(), "torch": toys.ToTorch(), "verify": toys.Verify()}


def run(folder: Path, until: str | None = None, **stages: Any) -> tuple[JobResult, list[Any]]:
    events: list[Any] = []
    return pipeline.run(Job(toys.model(), {**GOOD, **stages}, until=until), folder, events.append), events


def test_check_accepts_a_stage_that_stays_at_its_level() -> None:
    assert ladder.check(GOOD) == []


def test_check_names_every_break_of_the_ladder() -> None:
    problems = ladder.check({"torch": toys.ToTorch(), "export": toys.Export(), "verify": toys.Verify()})
    assert [problem.place for problem in problems] == ["stages.torch", "stages.export", "stages.verify"]
    assert "takes torchscript, but the job's entry gives model" in str(problems[0])
    assert "move it after torch" in problems[2].fix


def test_check_refuses_an_empty_pipeline() -> None:
    assert [problem.place for problem in ladder.check({})] == ["stages"]


def test_an_ok_job_saves_and_counts_every_stage(tmp_path: Path) -> None:
    result, events = run(tmp_path)
    assert (result.outcome, result.stage, result.problems) == ("ok", "verify", ())
    assert [stage.artifact for stage in result.stages] == [
        "01-export.pt2", "02-script.ts", "03-torch.torch.mlir", "04-verify.torch.mlir"]
    assert (tmp_path / "02-script.ts").read_text() == "toy from exported\n"
    assert all(stage.outcome == "ok" and stage.ops == {"toy.op": 3} and stage.cache == "off" for stage in result.stages)
    assert [event["stage"] for event in events if event["event"] == "stage"] == list(GOOD)


def test_until_stops_after_the_level(tmp_path: Path) -> None:
    result, _ = run(tmp_path, until="torchscript")
    assert [stage.name for stage in result.stages] == ["export", "script"]
    assert result.outcome == "ok"


def test_a_refusal_carries_the_whole_inventory(tmp_path: Path) -> None:
    result, _ = run(tmp_path, script=toys.Refuse())
    assert (result.outcome, result.stage) == ("unsupported", "script")
    assert [problem.place for problem in result.problems] == ["aten.one", "aten.two"]
    assert [stage.outcome for stage in result.stages] == ["ok", "unsupported"]


def test_a_broken_promise_fails_the_stage_and_keeps_its_file(tmp_path: Path) -> None:
    result, _ = run(tmp_path, script=toys.Break())
    assert (result.outcome, result.stage, result.problems) == ("error", "script", (Problem("dim 0", "was burned in"),))
    assert (tmp_path / "02-script.ts").exists()


def test_a_failed_stage_still_reports(tmp_path: Path) -> None:
    result, events = run(tmp_path, verify=toys.Verify(mismatch=True))
    assert (result.outcome, result.stage) == ("mismatch", "verify")
    assert result.verify["points"] == 2
    assert [event["key"] for event in events if event["event"] == "report"] == ["verify"]


@pytest.mark.parametrize(("how", "outcome"), [
    ("raise", "error"), ("unreadable", "error"), ("sys.exit", "error"), ("load error", "load_error"), ("unsupported", "unsupported"),
    ("memory error", "oom"), ("infra", "infra"), ("disk full", "infra"),
])
def test_an_exception_is_an_outcome(tmp_path: Path, how: str, outcome: str) -> None:
    result, _ = run(tmp_path, script=toys.Behave(how=how))
    assert (result.outcome, result.stage) == (outcome, "script")
    assert result.problems
    assert "stage script:" in (tmp_path / "log.txt").read_text()


def test_the_place_of_an_error_is_the_users_line(tmp_path: Path) -> None:
    result, _ = run(tmp_path, script=toys.Behave(how="raise"))
    assert "toys.py:" in result.problems[0].place
    assert "größer als 例" in result.problems[0].cause


def test_a_warning_is_recorded_once_with_its_stage(tmp_path: Path) -> None:
    result, _ = run(tmp_path, script=toys.Behave())
    assert [(remark.code, remark.place, remark.stage) for remark in result.warnings] == [("about-to", "toy.py:1", "script")]


@pytest.mark.parametrize("how", ["ok", "raise", "unsupported"])
def test_a_result_comes_back_from_its_files(tmp_path: Path, how: str) -> None:
    result, _ = run(tmp_path, until="torchscript", script=toys.Behave(how=how))
    result.save(tmp_path)
    assert JobResult.load(tmp_path) == result


def test_what_json_has_no_number_for_is_a_word(tmp_path: Path) -> None:
    run(tmp_path)[0].save(tmp_path)
    manifest = json.loads((tmp_path / "manifest.json").read_text(), parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    assert manifest["verify"]["max_abs"] == "nan"


def test_a_half_written_manifest_is_no_result(tmp_path: Path) -> None:
    run(tmp_path)[0].save(tmp_path)
    text = (tmp_path / "manifest.json").read_text()
    (tmp_path / "manifest.json").write_text(text[: len(text) // 2])
    assert JobResult.load(tmp_path) is None


def test_the_peak_of_a_stage_is_its_own() -> None:
    source = reset_peak()
    if source != HIGH_WATER:
        pytest.skip("the kernel does not let a process reset its high-water mark")
    before = read_peak_bytes(source)
    held = b"x" * (200 << 20)
    assert read_peak_bytes(source) - before > 150 << 20
    del held
    assert read_peak_bytes(reset_peak()) - before < 100 << 20
