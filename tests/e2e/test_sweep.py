"""A sweep from one YAML and from one Hydra command line: both run, each with its own store, and give the same at every level."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from tests.prefect_server import shapeline

SUITE = "models: [mlp]\nsweep: {symbols.batch.max: [8, 32], stages: [default, bounds, fx]}\n"
HYDRA = ["-m", "model=mlp", "model.symbols.batch.max=choice(8,32)", "stages=default,bounds,fx"]
IDS = [f"mlp--batch{size}-{options}" for size in (8, 32) for options in ("default", "bounds", "fx")]
LEVELS = (".py", ".ts", ".mlir", ".stablehlo")  # text of programs: what else lies in a job's folder tells times and paths


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, prefect: dict[str, str]) -> Path:
    """Where both were run."""
    home = tmp_path_factory.mktemp("sweep")
    (home / "mine.yaml").write_text(SUITE)
    for words in (["run", "suite=mine.yaml", "output=yaml", "until=mhlo"], ["multirun", *HYDRA, "output=hydra", "until=mhlo"]):
        done = shapeline(prefect, *words, cwd=home)
        assert done.returncode == 0, done.stdout + done.stderr
    return home


def programs(home: Path, output: str) -> dict[str, dict[str, str]]:
    """By job id the digest of each level's program, by file name."""
    jobs = home / output / "runs/latest/jobs"
    return {job.name: {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(job.iterdir()) if file.suffix in LEVELS}
            for job in jobs.iterdir()}


def test_the_same_jobs_with_the_same_digests_of_every_level(home: Path) -> None:
    found = programs(home, "yaml")
    assert sorted(found) == sorted(IDS)
    assert {name.split(".")[0] for name in found["mlp--batch8-default"]} >= (
        {"01-export", "02-torchscript", "03-torch", "04-stablehlo", "05-mhlo"})
    assert found == programs(home, "hydra")
    assert found["mlp--batch8-default"] != found["mlp--batch8-bounds"]


def test_stages_have_the_same_keys_and_shared_prefixes_run_once(home: Path) -> None:
    by_yaml, by_hydra = ({job["id"]: job for job in json.loads((home / output / "runs/latest/report.json").read_text())["jobs"]}
                         for output in ("yaml", "hydra"))
    for name in IDS:
        # A retraced program is saved with what differs from one retrace to the next: its text is equal, its key is not.
        if name.endswith("-fx"):
            continue
        assert [(stage["name"], stage["key"]) for stage in by_yaml[name]["stages"]] == [
            (stage["name"], stage["key"]) for stage in by_hydra[name]["stages"]]
    pair = [by_yaml[f"mlp--batch8-{options}"] for options in ("default", "bounds")]
    shared = [stage["name"] for stage, other in zip(*(job["stages"] for job in pair), strict=True) if stage["key"] == other["key"]]
    assert shared == ["export", "torchscript", "torch", "stablehlo"]


def test_the_report_has_a_table_an_axis(home: Path) -> None:
    text = (home / "yaml/runs/latest/report.md").read_text()
    assert "### symbols.batch.max" in text
    assert "| mlp | bounds | 2 | 2 |" in text.partition("### stages")[2]
