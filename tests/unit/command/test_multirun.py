"""Hydra's own way to sweep: its combinations become one run, of the jobs that a suite's sweep has."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from flows.__main__ import main
from flows.command.multirun import find_jobs, plan_combinations
from flows.config import run as config
from flows.config.expansion import job_id
from flows.config.plan import plan
from flows.runs import record
from lowering.store import keys
from tests.unit.config.configurations import digests
from tests.unit.conftest import Asked

RANGES = {"model": ["bert", "gpt2", "llama"], "model.symbols.seq.max": [64, 128, 256, 512],
          "stages": ["default", "core", "transform", "bounds", "fx"]}


@pytest.fixture
def swept(monkeypatch: pytest.MonkeyPatch, asked: Asked) -> Asked:
    """The runs that Hydra's launcher asks for; every job ends ok."""
    results = [SimpleNamespace(id=name, outcome="ok") for name in digests(plan(["suite=ranges"]))]
    monkeypatch.setattr(record, "load", lambda folder: SimpleNamespace(results=lambda: results))
    monkeypatch.setattr(sys, "argv", ["shapeline"])
    return asked


def test_one_hydra_command_is_one_run_of_the_jobs_of_the_suite_by_name_and_key(swept: Asked, tmp_path: Path) -> None:
    axes = ["model.symbols.seq.max=choice(64,128,256,512)", "stages=default,core,transform,bounds,fx"]
    assert main(["multirun", "-m", "model=bert,gpt2,llama", *axes, f"output={tmp_path}/out"]) == 0
    (planned,) = swept.plans
    found = {job.id: keys.compute(keys.list_job_parts(job.to_json(), {})) for job in config.build(planned).jobs}
    assert len(found) == 60
    assert found == {job.id: keys.compute(keys.list_job_parts(job.to_json(), {})) for job in config.load(["suite=ranges"]).jobs}
    assert planned.output == tmp_path / "out"


def test_combinations_that_are_a_product_are_its_jobs() -> None:
    combinations = [[f"{key}={value}" for key, value in zip(RANGES, chosen, strict=True)] for chosen in itertools.product(*RANGES.values())]
    found = plan_combinations(combinations)
    assert digests(found) == digests(plan(["suite=ranges"]))
    assert [find_jobs(found, combination) for combination in combinations[:2]] == [["bert--seq64-default"], ["bert--seq64-core"]]


def test_combinations_of_another_sweeper_are_those_jobs_and_no_others() -> None:
    combinations = [["model=mlp", "model.mlp.seed=1", "stages=default"], ["model=mlp", "model.mlp.seed=2", "stages=core"]]
    found = plan_combinations(combinations, single=["model"])
    assert [job_id(job) for job in found.jobs] == ["mlp--default-seed1", "mlp--core-seed2"]
    assert [find_jobs(found, combination) for combination in combinations] == [["mlp--default-seed1"], ["mlp--core-seed2"]]
    assert plan(found.overrides).jobs == found.jobs


def test_what_is_wrong_is_said_before_anything_runs(swept: Asked, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["multirun", "-m", "model=mlp", "~stages.verify"]) == 2
    assert "Hydra cannot remove a key in a multirun" in capsys.readouterr().err
    assert main(["multirun", "-m", "model=mlp", "model.mlp.sead=1,2"]) == 2
    assert "did you mean 'seed'?" in capsys.readouterr().err
    assert swept.plans == []
