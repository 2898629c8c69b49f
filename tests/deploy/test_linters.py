"""The linters of the files for containers, clusters and CI, where they are installed: `make lint-deploy` installs them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINTERS = {
    "Dockerfile": ["hadolint", "Dockerfile"],
    "compose": ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", "compose.yaml"],
    "workflow": ["check-jsonschema", "--builtin-schema", "vendor.github-workflows", ".github/workflows/lower.yaml"],
    "kubernetes": ["kubernetes-validate", "--strict", "deploy/kubernetes/shapeline.yaml"],
    "slurm": ["shellcheck", "deploy/slurm/dask.sbatch", "deploy/slurm/ray.sbatch"],
}


@pytest.mark.parametrize("name", LINTERS)
def test_a_linter_finds_nothing(name: str) -> None:
    command = LINTERS[name]
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed: make lint-deploy")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
