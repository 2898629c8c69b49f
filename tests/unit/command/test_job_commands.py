"""The commands about one job: explain and exec."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.nights import InventedJob, invent
from flows.__main__ import main
from flows.config.compose import ROOT
from flows.report import remarks
from lowering import files
from lowering.model import Symbol
from lowering.record.folder import JOB
from lowering.record.result import JobResult, Remark
from lowering.stage import Silent
from lowering.stages.package import Package
from lowering.stages.verify import Verify
from tests.unit.models import symbol_models as models
from tests.unit.models.scaled_model import program
from tests.unit.models.symbol_models import FILE, export, line, model


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What holds a run of four jobs: one with a symbol log, one with an artifact, one with neither, and one of a like name."""
    top = tmp_path_factory.mktemp("artifacts")
    run = top / "runs" / "20260101T000000Z-some-abcdef"
    ids = ["branch--default", "scaled--default", "broken--default", "broken--other"]
    for job in ids:
        (run / "jobs" / job).mkdir(parents=True)
        files.write(run / "jobs" / job / JOB, {})
    files.write(run / "run.json", {"schema": 1, "run": run.name, "jobs": [{"id": job} for job in ids]})
    files.write(run / "report.json", {})
    export(models.Branch, model(models.Branch, {"n": Symbol(1, 64)}, x=["n"])).record.save(run / "jobs/branch--default")
    files.write(run / "jobs/broken--other/symbols.json", {})
    stage, folder = Verify(platforms=("cpu",)), run / "jobs/scaled--default"
    verified = stage.apply(program(), Silent())
    stage.save(verified, folder / "06-verify")
    Package().save(verified, folder / "07-package")
    (top / "runs/latest").symlink_to(run.name)
    return top


def test_explain_prints_the_page_one_symbol_the_timeline_or_the_source(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(*arguments: str) -> str:
        assert main(["explain", "branch", *arguments, "--output", str(output)]) == 0
        return capsys.readouterr().out

    assert said().startswith("Symbols of branch: 0 of 1 requested dims are dynamic\n")
    assert said("--markdown").startswith("# Symbols of branch: 0 of 1 requested dims are dynamic\n")
    assert "verdict: refused" in said("n")
    assert f"n > 3  ({FILE}:{line('branch')} in forward)" in said("n", "--timeline")
    assert "^ guard n > 3" in said("--source")


@pytest.mark.parametrize(("arguments", "words"), [
    (["explain", "branch", "m"], "'m' is not a symbol or dim of branch; known: n, s77, x[0]"),
    (["explain", "brnch--default"], "did you mean 'branch--default'?"),
    (["explain", "broken"],
     "is part of the ids of 2 jobs of run 20260101T000000Z-some-abcdef (name one of broken--default, broken--other)"),
    (["explain", "broken--default"], "is missing: the job has no result yet"),
    (["explain", "broken--other"], "is empty: the job ended before its export began"),
    (["explain", "branch", "--run", "nowhere"], "has no report of a run 'nowhere'"),
    (["exec", "scaled", "--size", "batch", "--size", "seq=x"], "--size seq=x"),
    (["exec", "scaled", "--size", "batch=3", "--size", "batch=4"], "'batch' was already given the size 3"),
    (["exec", "scaled", "--size", "batch=65"], "is outside [1, 64]"),
    (["exec", "scaled", "--size", "bach=3"], "symbols: batch"),
])
def test_what_cannot_be_answered_is_a_usage_error_that_says_why(
    arguments: list[str], words: str, output: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([*arguments, "--output", str(output)]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert words in said.err


def test_exec_runs_at_any_size_in_a_process_that_never_loads_the_models_code(output: Path, tmp_path: Path) -> None:
    script = ("import sys; from flows.__main__ import main; code = main(sys.argv[1:]); "
              "print({name.split('.')[0] for name in sys.modules} & {'tests', 'transformers', 'torch_mlir', 'prefect'}); sys.exit(code)")
    ended = subprocess.run([sys.executable, "-c", script, "exec", "scaled", "--size", "batch=9", "--output", str(output)], cwd=tmp_path,
                           env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    head, _, logits, count, loaded = ended.stdout.splitlines()
    assert head.startswith("scaled--default on cpu at batch=9: ")
    assert logits.split()[:3] == ["logits", "float32[9,", "8]"] and count.split()[:2] == ["count", "int64[9]"]
    assert loaded == "set()"


def test_exec_compares_with_eager_and_fails_on_a_difference(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from safetensors.torch import load_file, save_file

    arguments = ["exec", "scaled", "--size", "batch=13", "--compare", "--json", "--output", str(output)]
    assert main(arguments) == 0
    assert [row["eager"] for row in json.loads(capsys.readouterr().out)["results"]] == ["agrees", "agrees"]
    kept = output / "runs/latest/jobs/scaled--default/06-verify.safetensors"
    tensors, before = load_file(kept), kept.read_bytes()
    save_file({name: value + 1 if name.endswith("/eager/count") else value for name, value in tensors.items()}, kept)
    assert main(arguments) == 1
    assert [row["eager"] for row in json.loads(capsys.readouterr().out)["results"]] == ["agrees", "values"]
    kept.write_bytes(before)


def test_exec_of_a_job_without_artifact_names_what_is_missing(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["exec", "branch", "--output", str(output)]) == 1
    assert "signature.json\n      is missing (lower the model to MHLO first)" in capsys.readouterr().err


def test_warnings_of_one_kind_are_one_line() -> None:
    def job(name: str, *warned: Remark) -> JobResult:
        return JobResult(f"{name}--default", name, "default", "ok", warnings=warned)

    wide = [Remark("promised_wider_than_traced", f"{place} is wide", place, "export") for place in ("batch", "seq")]
    static = [Remark("became_static", f"x[{dim}] became 4", f"x[{dim}]", "export") for dim in (0, 1)]
    rows = remarks.make_rows([job("one", *wide), job("two", wide[0], *static), job("three", static[0])])
    assert [(row["job"], row["code"], row["place"], row["message"]) for row in rows] == [
        ("two--default", "became_static", "x[0], x[1]", "x[0] became 4 (and 1 more)"),
        ("three--default", "became_static", "x[0]", "x[0] became 4"),
        ("2 jobs", "promised_wider_than_traced", "batch, seq", "batch is wide (and 2 more)"),
    ]


def test_an_empty_name_is_the_name_of_no_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    invent(tmp_path, [InventedJob("mlp")])
    assert main(["explain", "", "--output", str(tmp_path)]) == 2
    assert "JOB ''\n      is neither a job of run" in capsys.readouterr().err
