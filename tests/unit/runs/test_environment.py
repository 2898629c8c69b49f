"""Where a run took place."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from flows.runs import environment


def test_the_commit_is_that_of_the_code_not_of_a_repository_around_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=tmp_path, check=True, capture_output=True)

    module = tmp_path / "environment.py"
    module.touch()
    git("init")
    git("commit", "--allow-empty", "-m", "something else")
    monkeypatch.setattr(environment, "__file__", str(module))
    assert environment.describe()["git"] is None
    git("add", module.name)
    git("commit", "-m", "the code")
    assert environment.describe()["git"]["modified"] is False
    module.write_text("changed")
    assert environment.describe()["git"]["modified"] is True
