"""The custom op suite through the command: built, lowered, executed; and broken libraries beside a whole one."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.prefect_server import shapeline

BROKEN = """
models:
  custom_norm:
    variants:
      whole: {{}}
      unbuilt: {{libraries: [{{sources: [{folder}/broken.cpp]}}]}}
      missing: {{libraries: [{{module: examples.custom_ops}}]}}
  custom_ops:
    variants:
      fakeless: {{libraries: [{{sources: [examples/custom_ops/ops.cpp]}}]}}
"""


def run(environment: Mapping[str, str], folder: Path, *overrides: str) -> tuple[subprocess.CompletedProcess[str], dict[str, Any]]:
    """`shapeline run` at the root of the project, into `folder`; the process and its report."""
    done = shapeline(environment, "run", *overrides, f"output={folder}")
    report = folder / "runs" / "latest" / "report.json"
    assert report.is_file(), done.stderr
    return done, dict(json.loads(report.read_text()))


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory,
          prefect: dict[str, str]) -> tuple[Path, subprocess.CompletedProcess[str], dict[str, Any]]:
    folder = tmp_path_factory.mktemp("suite")
    return folder, *run(prefect, folder, "suite=custom_ops")


def test_the_suite_reaches_mhlo_and_is_verified_through_the_bridge(
    suite: tuple[Path, subprocess.CompletedProcess[str], dict[str, Any]]) -> None:
    _, done, report = suite
    jobs = {job["id"]: job for job in report["jobs"]}
    assert {name: job["outcome"] for name, job in jobs.items()} == dict.fromkeys(
        ("custom_ops--default", "custom_norm--cpp", "custom_norm--python", "custom_norm--both", "custom_layer_norm--default"), "ok")
    assert [name for name, job in jobs.items() if len(job["verify"]["points"]) < 3] == []
    assert done.returncode == 0, done.stdout


def test_the_same_call_however_the_op_is_registered(suite: tuple[Path, subprocess.CompletedProcess[str], dict[str, Any]]) -> None:
    folder = suite[0] / "runs" / "latest" / "jobs"
    calls = {next(line.split("= ", 1)[1] for line in path.read_text().splitlines() if "@fused.rms_norm" in line)
             for path in folder.glob("custom_norm--*/*.mhlo.mlir")}
    assert len(calls) == 1 and len(list(folder.glob("custom_norm--*"))) == 3
    (call,) = calls
    assert "tensor<?x16xf32>" in call and 'op = "fused::rms_norm"' in call
    assert [name for name in ("x", "weight", "eps", "dtype") if f"{name} = {{" not in call] == []


def test_broken_libraries_have_outcomes_of_their_own(tmp_path: Path, prefect: dict[str, str]) -> None:
    (tmp_path / "broken.cpp").write_text("int main() { return NOTHING; }\n")
    (tmp_path / "broken.yaml").write_text(BROKEN.format(folder=tmp_path))
    done, report = run(prefect, tmp_path, f"suite={tmp_path}/broken.yaml")
    assert done.returncode == 1, done.stderr
    jobs = {job["variant"]: job for job in report["jobs"]}
    assert {name: job["outcome"] for name, job in jobs.items()} == {
        "whole": "ok", "unbuilt": "load_error", "missing": "load_error", "fakeless": "unsupported"}
    said = {name: json.dumps(job["problems"]) for name, job in jobs.items()}
    assert "broken.cpp" in said["unbuilt"] and "NOTHING" in said["unbuilt"]
    assert "fused::rms_norm" in said["missing"] and "libraries" in said["missing"]
    assert "fused::keep_rows" in said["fakeless"] and "examples/custom_ops/ops.cpp" in said["fakeless"]
    assert "fake kernel" in said["fakeless"]
    log = (tmp_path / "runs" / "latest" / "jobs" / "custom_norm--unbuilt" / "log.txt").read_text()
    assert "-std=c++20" in log and "NOTHING" in log, "the compiler's call and output are in the job's log"
