"""Imports: no circle in a package, and the contracts of pyproject.toml notice an import that points up. Files: none is too long."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("lowering", "flows", "shapeline", "benchmarks", "tests")
PLANTED = "def planted() -> None:\n    from flows.command import printing\n\n    print(printing)\n"


def circle(package: str) -> list[str]:
    """Return the modules of one import circle of a package; none when there is none. Function-local and TYPE_CHECKING imports count."""
    graph = grimp.build_graph(package, cache_dir=None)
    try:
        TopologicalSorter({module: graph.find_modules_directly_imported_by(module) for module in graph.modules}).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


@pytest.mark.parametrize("package", ["flows", "lowering", "shapeline"])
def test_no_import_circle(package: str) -> None:
    assert circle(package) == []


def test_no_file_is_longer_than_contributing_says() -> None:
    limit = int(re.search(r"never more than (\d+);", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))[1])
    lengths = {path: path.read_text(encoding="utf-8").count("\n") for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    assert [str(path.relative_to(ROOT)) for path, length in lengths.items() if length > limit] == []


@pytest.fixture
def planted(tmp_path: Path) -> Path:
    """A copy of the packages with an import that points up, inside a function of the ground floor."""
    for package in ("benchmarks", "flows", "lowering", "shapeline"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=lambda folder, names: [
            name for name in names if not (name.endswith(".py") or (Path(folder) / name).is_dir())])
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    ground = tmp_path / "flows/output.py"
    ground.write_text(ground.read_text() + "\n\n" + PLANTED)
    return tmp_path


def test_a_planted_import_is_found(planted: Path) -> None:
    def run(*words: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(planted)}
        return subprocess.run([sys.executable, *words], cwd=planted, env=environment, capture_output=True, text=True, check=False)

    linted = run("-c", "from importlinter.cli import lint_imports_command; lint_imports_command()", "--no-cache")
    assert linted.returncode == 1, linted.stdout
    assert "Imports point down the flows BROKEN" in linted.stdout
    assert "flows.output -> flows.command.printing" in linted.stdout
    found = run("-c", f"import sys; sys.path.append({str(ROOT)!r}); from tests.unit.test_layers import circle; print(*circle('flows'))")
    assert found.returncode == 0, found.stderr
    assert {"flows.output", "flows.command.printing"} <= set(found.stdout.split())
