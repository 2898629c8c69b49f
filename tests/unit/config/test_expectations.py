"""Expectations of a suite: what a file may say, what of it counts, and how a run's endings are written into it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.__main__ import main
from flows.command import update_expected
from flows.config import expectation_edit, expectations
from flows.config.plan import Plan, plan
from flows.config.run import Run
from flows.report import flaky, report
from flows.runs.begin import begin, end
from flows.runs.record import Record
from lowering import pipeline
from lowering.errors import ConfigError
from lowering.record.result import UNSPECIFIED, Expectation
from tests import toys
from tests.conftest import GOLDEN
from tests.unit.config.configurations import TINY

FAILS = Expectation("unsupported", "script", "no lowering yet")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of configurations with a suite of two models and three jobs."""
    for group in ("model", "suite", "expect"):
        (tmp_path / group).mkdir()
    for name in ("one", "two"):
        (tmp_path / f"model/{name}.yaml").write_text(TINY)
    (tmp_path / "suite/mine.yaml").write_text("models: {one: {sweep: {seed: [1, 2]}}, two: }")
    return tmp_path


def planned(folder: Path, text: str | None, *overrides: str) -> Plan:
    if text is not None:
        (folder / "expect/mine.yaml").write_text(text)
    return plan([f"hydra.searchpath=['{folder}']", "suite=mine", *overrides])


def refused(folder: Path, text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        planned(folder, text)
    return [str(problem).removeprefix(f"{folder}/expect/") for problem in caught.value.problems]


def test_without_a_file_every_job_is_expected_to_pass(folder: Path) -> None:
    found = planned(folder, None)
    assert found.expected == {}
    assert found.expectations == folder / "expect/mine.yaml"


def test_a_job_s_own_entry_counts_before_its_model_s_and_the_others_are_unspecified(folder: Path) -> None:
    found = planned(folder, "expect: {one: ok, one--seed2: {outcome: unsupported, stage: script, reason: no lowering yet}}")
    assert found.expected == {"one--seed1": Expectation(), "one--seed2": FAILS, "two--default": Expectation(UNSPECIFIED)}


def test_all_problems_of_a_file_are_reported_at_once(folder: Path) -> None:
    found = refused(folder, "strict: perhaps\nexpect:\n  one: okay\n  two: {outcome: ok, stag: mhlo}\n  one: okay\n  two--default: infra\n")
    for said in ("mine.yaml:1 strict: 'perhaps' is not true or false", "expect.one: 'okay' is not", "expect.two.stag: is not a known key",
                 "mine.yaml:5 one: is already given in line 3", "expect.two--default: 'infra' is not"):
        assert any(said in problem for problem in found), (said, found)


def test_names_that_the_suite_has_not_are_errors_with_their_near_miss(folder: Path) -> None:
    assert refused(folder, "expect: {one--sed1: ok,\n  twoo: ok, three: ok}") == [
        "mine.yaml:1 expect.one--sed1: the suite has no job or model 'one--sed1' (did you mean 'one--seed1'?)",
        "mine.yaml:2 expect.twoo: the suite has no job or model 'twoo' (did you mean 'two'?)",
        ("mine.yaml:2 expect.three: the suite has no job or model 'three' "
         "(remove the entry, or update the file with shapeline update-expected)"),
    ]


def test_jobs_that_the_command_line_sweeps_are_not_the_suite_s(folder: Path) -> None:
    found = planned(folder, "expect: {two--default: ok, one: ok}", "model.two.seed=choice(1,2)")
    assert found.expectations is None
    assert found.expected["two--seed1"].outcome == UNSPECIFIED
    assert found.expected["one--seed1"].outcome == "ok"


@pytest.mark.parametrize(("expect", "outcome", "stage", "met"), [
    (Expectation(), "ok", "mhlo", True),
    (Expectation(), "error", "mhlo", False),
    (Expectation(UNSPECIFIED), "error", "mhlo", True),
    (Expectation(UNSPECIFIED), "infra", "mhlo", False),
    (Expectation(UNSPECIFIED), "not_run", "start", False),
    (FAILS, "unsupported", "script", True),
    (FAILS, "unsupported", "torch", False),
    (FAILS, "error", "script", False),
    (FAILS, "ok", "torch", False),
    (Expectation("unsupported", "script", strict=False), "ok", "torch", True),
    (Expectation("unsupported"), "unsupported", "torch", True),
])
def test_what_meets_an_expectation(expect: Expectation, outcome: str, stage: str, met: bool) -> None:
    assert expect.met(outcome, stage) is met


def test_an_edit_touches_only_what_differs_and_keeps_comments(golden: Callable[[str, str], None]) -> None:
    text = (GOLDEN / "expect.before.yaml").read_text()
    golden("expect.after.yaml", expectation_edit.edit(text, {
        "llama--core": Expectation("error", "mhlo", 'pass "x" failed: no'), "gpt2--new": Expectation(), "vit--a": None,
        "bert": Expectation("crash", "torch")}))
    assert expectation_edit.edit(text, {}).splitlines() == text.splitlines()


def test_a_new_file(golden: Callable[[str, str], None]) -> None:
    golden("expect.new.yaml", expectation_edit.edit("", {"b--1": FAILS, "a--1": Expectation()}))


def test_a_new_file_reads_back() -> None:
    text = expectation_edit.edit("", {"b--1": FAILS, "a--1": Expectation()})
    assert yaml.safe_load(text) == {"strict": True, "expect": {
        "a--1": "ok", "b--1": {"outcome": "unsupported", "stage": "script", "reason": "no lowering yet"}}}


NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,6}--[a-z0-9][a-z0-9.=+_-]{0,8}", fullmatch=True)
REASONS = st.text(max_size=12) | st.sampled_from(["no", "a: b", "#1", "1.0", "{", "\x85"])
ENDS = st.builds(Expectation, st.sampled_from(["ok", "error"]), st.sampled_from(["", "torch"]), REASONS)
ENTRIES = st.dictionaries(NAMES, ENDS, max_size=4)


@settings(max_examples=50, deadline=None)
@given(ENTRIES, ENTRIES, st.data())
def test_edits_describe_themselves(
    tmp_path_factory: pytest.TempPathFactory, first: dict[str, Expectation], second: dict[str, Expectation], data: st.DataObject
) -> None:
    gone = data.draw(st.lists(st.sampled_from(sorted(first)), unique=True)) if first else []
    text = expectation_edit.edit(expectation_edit.edit("", first), {**second, **dict.fromkeys(gone)})
    file = tmp_path_factory.getbasetemp() / "edited.yaml"
    file.write_text(text)
    wanted = {name: entry for name, entry in {**first, **second}.items() if name not in gone}
    assert expectations.match_jobs(expectations.read(file), wanted) == wanted
    assert [line.split(":")[0].strip() for line in text.splitlines()[3:]] == sorted(wanted)


def finished(output: Path, file: Path, ways: dict[str, str], expected: dict[str, Expectation] | None = None) -> Record:
    jobs = tuple(toys.job(how, name) for name, how in ways.items())
    run = begin(Run(Plan("toys", output=output, expected=expected or {}, expectations=file), jobs))
    for job in jobs:
        folder = run.job_folder(job.id)
        pipeline.run(job, folder).save(folder)
    report.write(run)
    end(run, 1.0)
    return run


def test_update_expected_writes_the_differences_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "expect.yaml"
    file.write_text("expect:\n  good--default: ok  # kept\n  gone--default: ok\n  mends--default: {outcome: error, stage: script}\n")
    finished(tmp_path, file, {"good": "ok", "mends": "ok", "bad": "unsupported", "lost": "infra"})
    assert main(["update-expected", "--output", str(tmp_path)]) == 0
    assert file.read_text() == """\
expect:
  bad--default: {outcome: unsupported, stage: script, reason: "no"}
  good--default: ok  # kept
  mends--default: ok
"""
    said = capsys.readouterr().out.splitlines()
    assert said[:3] == ["bad--default: no entry -> unsupported in script", "gone--default: ok -> no entry",
                        "mends--default: error in script -> ok"]
    assert "unchanged, because the run has no verdict on them: lost--default" in said
    assert main(["update-expected", "--output", str(tmp_path)]) == 0
    assert "already agrees with the outcomes" in capsys.readouterr().out


def test_a_run_of_part_of_the_suite_removes_no_entry(tmp_path: Path) -> None:
    file = tmp_path / "expect.yaml"
    file.write_text("expect: {other--default: ok}\n")
    jobs = (toys.job("ok", "good"),)
    run = begin(Run(Plan("toys", output=tmp_path, expectations=file, total=2), jobs))
    pipeline.run(jobs[0], run.job_folder("good--default")).save(run.job_folder("good--default"))
    assert set(update_expected.find_differences(run)[0]) == {"good--default"}


def test_the_report_separates_expected_failures_new_jobs_and_passes(tmp_path: Path) -> None:
    expected = {"known--default": Expectation("unsupported", "script", "waits"), "new--default": Expectation(UNSPECIFIED),
                "mends--default": Expectation("error", strict=False)}
    run = finished(tmp_path, tmp_path / "expect.yaml", {"known": "unsupported", "new": "raise", "mends": "ok", "good": "ok"}, expected)
    data = json.loads((run.folder / "report.json").read_text())
    assert data["as_expected"] is True
    assert {job["id"]: (job["expected"], job["as_expected"]) for job in data["jobs"]}["new--default"] == (UNSPECIFIED, True)
    text = (run.folder / "report.md").read_text()
    assert text.startswith("# toys: 4 jobs: 2 ok, 1 unsupported, 1 error (1 unspecified)\n")
    for title in ("## Fail as expected", "## Pass, but were expected to fail", "## Without an expectation"):
        assert title in text
    assert "## Not as expected" not in text
    strict = finished(tmp_path / "strict", tmp_path / "expect.yaml", {"mends": "ok"}, {"mends--default": Expectation("error")})
    assert json.loads((strict.folder / "report.json").read_text())["as_expected"] is False


def test_a_job_that_ends_otherwise_with_the_same_key_is_flaky(tmp_path: Path) -> None:
    first = finished(tmp_path, tmp_path / "e.yaml", {"a": "ok", "b": "ok"})
    second = finished(tmp_path, tmp_path / "e.yaml", {"a": "ok", "b": "ok"})
    assert json.loads((second.folder / "report.json").read_text())["flaky"] == {}
    endings = json.loads((first.folder / flaky.ENDINGS).read_text())
    (first.folder / flaky.ENDINGS).write_text(json.dumps(endings | {"b--default": [endings["b--default"][0], "timeout", "script"],
                                                                    "a--default": ["another key", "error", "script"]}))
    report.write(second)
    listed = json.loads((second.folder / "report.json").read_text())["flaky"]
    assert listed == {"b--default": [{"run": first.folder.name, "outcome": "timeout", "stage": "script"}]}
    assert "| b--default | ok | timeout in script" in (second.folder / "report.md").read_text()
