"""The wheel, built of a copy of the sources, and commands that know nothing of this repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCES = ("lowering", "flows", "shapeline", "configs", "hydra_plugins", "benchmarks", "examples", "tests", "pipeline.yaml",
           "pyproject.toml", "README.md", "LICENSE")


def run(*words: str | Path, cwd: Path, seconds: float = 600, **more: str) -> str:
    """Run a command; its output. more: environment variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PREFECT_"))}
    done = subprocess.run(words, cwd=cwd, env={**kept, **more}, capture_output=True, text=True, timeout=seconds, check=False)
    assert done.returncode == 0, f"{' '.join(map(str, words))}\n{done.stdout}{done.stderr}"
    return done.stdout


def build(folder: Path) -> Path:
    """Build the wheel in `folder`, of a copy of the sources: a build leaves files beside them."""
    copy = folder / "sources"
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy)
    run(sys.executable, "-m", "pip", "wheel", "--no-build-isolation", "--no-deps", "--quiet", "--wheel-dir", folder, copy, cwd=copy)
    return next(folder.glob("*.whl"))
