"""Causes of failures across runs, and their notes."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest

from benchmarks.nights import invent
from flows.__main__ import main
from flows.history import causes
from flows.runs import record
from lowering import files
from lowering.errors import ConfigError
from tests.unit.history.invented_runs import FIRST, GREEN, RED, REDDER


def test_a_note_shows_in_every_report_until_its_cause_is_gone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    invent(tmp_path, RED, started=FIRST)
    (key,) = causes.read(tmp_path / "runs").causes
    assert main(["note", "no lowering", "Mia has it", "--by", "mia", "--output", str(tmp_path)]) == 0
    assert key in capsys.readouterr().out
    second = invent(tmp_path, RED, started=FIRST + timedelta(days=1))
    text = (second / "report.md").read_text()
    assert re.search(rf"\| `{key}` \| 1 \| error in torch: .*Mia has it \(mia, ", text)
    assert files.read(second / "report.json")["causes"][0]["notes"][0]["text"] == "Mia has it"
    third = invent(tmp_path, GREEN, started=FIRST + timedelta(days=2))
    assert "Mia has it" not in (third / "report.md").read_text()
    assert main(["note", key, "--output", str(tmp_path)]) == 0
    assert f"gone since {third.name}" in capsys.readouterr().out


def test_a_run_of_some_jobs_or_of_fewer_levels_leaves_the_causes_of_the_others(tmp_path: Path) -> None:
    folder = invent(tmp_path, REDDER, started=FIRST)
    begun = record.load(folder)
    state = causes.read(folder.parent)
    (before,) = state.causes.values()
    green = record.load(invent(tmp_path / "other", GREEN[:2]))
    later = {**begun.data, "started": "2026-11-02T02:00:00+00:00"}
    (after,) = causes.update(state, {**later, "whole": False}, green.results()).causes.values()
    assert (before.jobs["zoo"], after.jobs["zoo"]) == (("bert--default", "gpt2--default"), ("gpt2--default",))
    (after,) = causes.update(state, {**later, "config": {"until": "torchscript"}},
                             record.load(invent(tmp_path / "all", GREEN)).results()).causes.values()
    assert after.jobs == before.jobs
    assert causes.update(state, {**later, "whole": True}, green.results()).causes == {}
    assert causes.update(state, {**later, "started": "2026-10-01T02:00:00+00:00"}, green.results()) == state


def test_a_damaged_file_of_causes_is_reported_and_the_report_is_written(tmp_path: Path) -> None:
    folder = invent(tmp_path, RED, started=FIRST)
    (folder.parent / causes.FILE).write_text('{"schema": 1, "causes": {"x": {"signature": 3}}}')
    with pytest.raises(ConfigError, match=re.escape(causes.FILE)):
        invent(tmp_path, RED, started=FIRST + timedelta(days=1))
    assert len(list(folder.parent.glob("2*/report.html"))) == 2
    assert "signature" in (folder.parent / causes.FILE).read_text()


@pytest.mark.parametrize("key", ["started", "suite"])
def test_the_report_of_a_damaged_run_is_refused_by_its_key_and_changes_no_cause(key: str, tmp_path: Path,
                                                                                capsys: pytest.CaptureFixture[str]) -> None:
    folder = invent(tmp_path, RED)
    before = causes.read(folder.parent)
    data = files.read(folder / record.RUN)
    del data[key]
    files.write(folder / record.RUN, data)
    assert main(["report", str(folder)]) == 2
    assert record.RUN in (said := capsys.readouterr().err) and key in said
    assert causes.read(folder.parent) == before


@pytest.mark.parametrize(("words", "cause"), [(["--by", "mia"], "needs a TEXT"), (["x", "--by", "mia"], "needs a TEXT"),
                                              (["x", "text", "--by", " "], "--by is empty"), (["x", " "], "TEXT is empty")])
def test_a_note_without_words_or_writer_is_refused(words: list[str], cause: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["note", *words])
    assert cause in capsys.readouterr().err
