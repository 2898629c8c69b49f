"""Other checkouts beside this one: the command that each has, and the keys of its configuration."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.start import ROOT, find_command, has_key


def test_a_checkout_is_run_by_the_command_that_it_has(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text('[project.scripts]\nshapeline = "old.command:main"\n')
    (tmp_path / "old").mkdir()
    (tmp_path / "old/command.py").write_text("import sys\ndef main():\n    print('of old', *sys.argv[1:])\n    return 3\n")
    done = subprocess.run([sys.executable, "-c", find_command(tmp_path), "run", "-k", "a b"], cwd=tmp_path, env={}, capture_output=True,
                          text=True, check=False)  # fmt: skip
    assert (done.returncode, done.stdout) == (3, "of old run -k a b\n")
    done = subprocess.run([sys.executable, "-c", find_command(ROOT), "nonsense"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, "there is no command 'nonsense'" in done.stderr) == (2, True)


def test_a_folder_that_is_no_checkout_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="is not a checkout of Shapeline"):
        find_command(tmp_path)


def test_keys_are_found_where_a_version_has_its_configuration(tmp_path: Path) -> None:
    (tmp_path / "pipeline.yaml").write_text("stages: {}\ncache: true\n# server: none\n")
    assert [has_key(tmp_path, key) for key in ("cache", "server")] == [True, False]
    assert has_key(ROOT, "server")
