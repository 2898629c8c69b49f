"""`shapeline doctor`: what an installation lacks, and the fix."""

from __future__ import annotations

import importlib.metadata
import os
from pathlib import Path

import pytest

from flows.command import doctor


def test_this_installation_has_the_versions_and_the_python_that_it_asks_for() -> None:
    found = [*doctor.check_python(), *doctor.check_versions()]
    assert [finding.mark for finding in found] == ["ok", "ok"]
    assert f"torch {importlib.metadata.version('torch')}" in found[1].text


def test_another_version_and_a_missing_package_are_problems_with_the_command_that_fixes_them(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = ["pyyaml>=99", "no-such-package==1", "rich>=1", "never; extra == 'dev'"]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: wanted)
    older, missing, fine = doctor.check_versions()
    assert (older.mark, older.fix) == ("problem", "pip install 'pyyaml>=99'") and "is not >=99" in older.text
    assert (missing.mark, missing.fix) == ("problem", "pip install 'no-such-package==1'")
    assert fine.mark == "ok" and fine.text.startswith("rich ")


def test_a_broken_wheel_is_reported_and_the_others_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "COMPILERS", ("no_such_compiler.ir", "json"))
    assert [str(finding) for finding in doctor.check_imports()] == [
        ("problem  no_such_compiler cannot be imported: ModuleNotFoundError: No module named 'no_such_compiler' "
         "(pip install --force-reinstall no-such-compiler)"),
        "ok       json can be imported",
    ]


def test_missing_programs_and_room_are_notes_and_an_unwritable_folder_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(doctor.sys, "executable", str(tmp_path / "python"))  # type: ignore[attr-defined]
    assert [finding.mark for finding in doctor.check_tools()] == ["note"] * 3
    monkeypatch.setattr(doctor, "LEAST_DISK", 1 << 60)
    (finding,) = doctor.check_disk(tmp_path / "artifacts")
    assert finding.mark == "note" and "shapeline prune" in finding.fix
    (tmp_path / "file").touch()
    (finding,) = doctor.check_disk(tmp_path / "file")
    assert (finding.mark, finding.fix) == ("problem", "choose another folder: output=FOLDER")


def test_a_server_that_does_not_answer_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "PREFECT_API_URL", "http://127.0.0.1:9/api")
    (finding,) = doctor.check_prefect()
    assert finding.mark == "problem" and "http://127.0.0.1:9/api does not answer" in finding.text and "shapeline server" in finding.fix
