"""`make test-matrix`: which Python a name is, and where torch comes from."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import matrix


def _write_python(path: Path, code: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho 'not chosen here' >&2\nexit {code}\n")
    path.chmod(0o755)
    return path


def test_a_python_that_a_version_manager_keeps_is_found_behind_a_name_that_does_not_start(tmp_path: Path) -> None:
    shim = _write_python(tmp_path / "shims/python3.77", 127)
    variables = {"HOME": str(tmp_path), "PATH": str(shim.parent)}
    with pytest.raises(FileNotFoundError, match=r"shims/python3\.77: not chosen here"):
        matrix.find_python("python3.77", variables)
    _write_python(tmp_path / ".pyenv/versions/3.77.9/bin/python3.77", 0)
    newest = _write_python(tmp_path / ".pyenv/versions/3.77.10/bin/python3.77", 0)
    assert matrix.find_python("python3.77", variables) == newest
    other = _write_python(tmp_path / "own/python3.77", 0)
    assert matrix.find_python("python3.77", {**variables, "PATH": str(other.parent)}) == other
    with pytest.raises(FileNotFoundError, match="on PATH, or in the folders of pyenv and uv"):
        matrix.find_python("python3.78", variables)


def test_torch_comes_from_the_index_of_cpu_builds_where_the_installed_one_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert matrix.choose_index({}, "2.13.0+cpu", lambda index: True) == matrix.CPU_INDEX
    assert matrix.choose_index({}, "2.13.0", lambda index: True) == "", "the default index has builds for CUDA"
    assert matrix.choose_index({"TORCH_INDEX": "https://own/"}, "2.13.0+cpu", lambda index: True) == "https://own/"
    assert not capsys.readouterr().err
    assert matrix.choose_index({}, "2.13.0+cpu", lambda index: False) == ""
    assert "cannot be reached" in capsys.readouterr().err
