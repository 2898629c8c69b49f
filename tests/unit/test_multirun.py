"""Hydra's own way to sweep: its combinations become one run, of the jobs that a suite's sweep has."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from flows import command, record
from flows.config import Run
from flows.expansion import digest, job_id
from flows.multirun import jobs_of, planned_of
from flows.planning import Plan, plan


def digests(found: Plan | Run) -> dict[str, str]:
    jobs = [job.to_json() for job in found.jobs] if isinstance(found, Run) else found.jobs
    return {job_id(job): digest(job) for job in jobs}


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Run]:
    """The runs that were asked for, in place of the flow; every job ends ok."""
    runs: list[Run] = []

    def lower_suite(run: Run) -> Path:
        runs.append(run)
        (tmp_path / "report.json").write_text(json.dumps({"as_expected": True}))
        return tmp_path

    flow: Any = ModuleType("flows.lower")
    flow.lower_suite = lower_suite
    monkeypatch.setitem(sys.modules, "flows.lower", flow)
    monkeypatch.setattr("flows.lower", flow, raising=False)
    results = [SimpleNamespace(id=name, outcome="ok") for name in digests(plan(["suite=ranges"]))]
    monkeypatch.setattr(record, "load", lambda folder: SimpleNamespace(results=lambda: results))
    monkeypatch.setattr(sys, "argv", ["shapeline"])
    return runs


def test_a_multirun_is_one_run_of_the_jobs_of_the_suite(ran: list[Run], tmp_path: Path) -> None:
    axes = ["model.symbols.seq.max=choice(64,128,256,512)", "model.symbols.batch.max=2,4,8,16,32"]
    assert command.main(["multirun", "-m", "model=bert,gpt2,llama", *axes, f"output={tmp_path}/out"]) == 0
    (run,) = ran
    assert set(digests(run)) == set(digests(plan(["suite=ranges"])))
    assert len(run.jobs) == 60
    assert run.output == tmp_path / "out"


def test_combinations_that_are_a_product_are_its_jobs() -> None:
    values = {"model": ["bert", "gpt2", "llama"], "model.symbols.seq.max": [64, 128, 256, 512], "model.symbols.batch.max": [2, 4, 8, 16, 32]}
    combinations = [[f"{key}={value}" for key, value in zip(values, chosen, strict=True)] for chosen in itertools.product(*values.values())]
    found = planned_of(combinations)
    assert digests(found) == digests(plan(["suite=ranges"]))
    assert [jobs_of(found, combination) for combination in combinations[:2]] == [["bert--batch2-seq64"], ["bert--batch4-seq64"]]


def test_combinations_of_another_sweeper_are_those_jobs_and_no_others() -> None:
    combinations = [["model=mlp", "model.mlp.seed=1", "stages.export.decompose=lazy"], ["model=mlp", "model.mlp.seed=2", "stages.export.decompose=core"]]
    found = planned_of(combinations, single=["model"])
    assert [job_id(job) for job in found.jobs] == ["mlp--lazy-seed1", "mlp--core-seed2"]
    assert [jobs_of(found, combination) for combination in combinations] == [["mlp--lazy-seed1"], ["mlp--core-seed2"]]
    assert plan(found.overrides).jobs == found.jobs


def test_what_is_wrong_is_said_before_anything_runs(ran: list[Run], capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["multirun", "-m", "model=mlp", "~stages.verify"]) == 2
    assert "Hydra cannot remove a key in a multirun" in capsys.readouterr().err
    assert command.main(["multirun", "-m", "model=mlp", "model.mlp.sead=1,2"]) == 2
    assert "did you mean 'seed'?" in capsys.readouterr().err
    assert ran == []
