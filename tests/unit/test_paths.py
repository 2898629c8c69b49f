"""Paths that a user writes lead to a file or to none."""

from __future__ import annotations

from pathlib import Path

import pytest

from lowering import paths


def test_a_name_that_is_too_long_is_no_file(tmp_path: Path) -> None:
    assert not paths.is_file(tmp_path / ("x" * 5000))
    assert not paths.is_folder(tmp_path / ("x" * 5000))
    assert not paths.exists(tmp_path / ("x" * 5000))
    assert not paths.exists(Path("\0"))


def test_the_home_of_nobody_is_no_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "x").touch()
    assert paths.is_file(paths.expand("~/x"))
    assert not paths.is_file(paths.expand("~no-such-user/x"))
