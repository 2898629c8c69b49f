"""The command line: what it prints, where, and its exit status."""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import shapeline
from flows.__main__ import main
from flows.command import verbs
from flows.command.arguments import parse_size
from flows.command.exits import OK, USAGE_ERROR
from flows.config.compose import ROOT
from flows.config.expansion import job_id
from lowering import versions
from lowering.errors import InfraError, Problem
from tests.unit.conftest import Asked


def test_no_command_and_an_unknown_one_are_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    assert "usage: shapeline COMMAND" in capsys.readouterr().err
    assert main(["validte"]) == 2
    assert "there is no command 'validte'; did you mean 'validate'?" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        main(["list", "--colour"])
    assert stopped.value.code == 2
    with pytest.raises(SystemExit):
        main(["run", "--model", "bert"])
    assert "--model (a key of the configuration is written model=VALUE)" in capsys.readouterr().err
    assert main(["--help"]) == 0


def test_list_prints_a_line_a_job(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "suite=quickstart", "-k", "bert or (resnet and image)", "model.bert.symbols.seq.max=128"]) == 0
    head, bert, resnet, _, total = capsys.readouterr().out.splitlines()
    assert head.split() == ["JOB", "SYMBOLS", "TO"]
    assert bert.startswith("bert--default")
    assert "seq [1, 128], a multiple of 8" in bert
    assert resnet.startswith("resnet--image")
    assert "height [" in resnet
    assert total.startswith("2 jobs of suite quickstart; ")


def test_list_has_a_column_for_every_axis(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--digests", "model=mlp", "model.mlp.seed=1,2", "stages.export.decompose=lazy,core"]) == 0
    head, first, *_ = capsys.readouterr().out.splitlines()
    assert head.split() == ["JOB", "decompose", "seed", "SYMBOLS", "TO", "DIGEST"]
    assert first.split()[:3] == ["mlp--lazy-seed1", "lazy", "1"]


def test_list_as_json_is_what_the_jobs_are_given(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--json", "model=mlp", "until=torchscript"]) == 0
    (job,) = json.loads(capsys.readouterr().out)
    assert (job["model"]["name"], job["variant"], job["until"]) == ("mlp", "default", "torchscript")
    assert next(iter(job["stages"])) == "export"


def test_list_names_what_can_be_chosen(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model/mine.yaml").touch()
    assert main(["list", "--models", "--suites", "--config-dir", str(tmp_path)]) == 0
    assert {"bert", "mlp", "mine", "quickstart", "full"} <= set(capsys.readouterr().out.split())


def test_validate_counts_what_it_checked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["validate", "suite=mlp"]) == 0
    assert capsys.readouterr().out == "suite mlp: 1 jobs, no problem found\n"


def test_validate_lists_every_error_with_file_key_and_near_miss(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "model/mine.yaml"
    file.parent.mkdir()
    file.write_text("factory: {_target_: lowering.sources.mlp.MLP, widht_in: 16, width_hidden: 8, width_out: 8}\n"
                    "inputs: {features: {dtype: float23, shape: [batch, 16]}}\nsymbols: {batch: {mim: 1, max: 8}}\n")
    arguments = ["validate", "--config-dir", str(tmp_path), "model=mine", "stages.export.strct=true"]
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines()[0] == "shapeline: 5 problems found"
    for place, fix in [("command line stages.export.strct", "strict"), (f"{file}:1 factory.widht_in", "width_in"),
                       (f"{file}:2 inputs.features.dtype", "float32"), (f"{file}:3 symbols.batch.mim", "min")]:
        at = said.err.splitlines().index(f"  {place}")
        assert f"did you mean '{fix}'?" in said.err.splitlines()[at + 1]
    assert main([*arguments, "--json"]) == 2
    data = json.loads(capsys.readouterr().out)
    assert data["ok"] is False
    assert {"place": f"{file}:1 factory.width_in", "cause": "is missing: lowering.sources.mlp.MLP needs it", "fix": ""} in data["problems"]


def test_a_dry_run_lists_and_starts_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", "--dry-run", "model=mlp"]) == 0
    assert "mlp--default" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_configuration_starts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["run", "suite=nowhere"]) == 2
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("as_expected", "status"), [(True, 0), (False, 1)])
def test_the_exit_status_of_a_run_is_its_reports(as_expected: bool, status: int, tmp_path: Path, asked: Asked) -> None:
    asked.as_expected = as_expected
    assert main(["run", "model=mlp", "--output", str(tmp_path / "out"), "-k", "mlp"]) == status
    (planned,) = asked.plans
    assert [job_id(job) for job in planned.jobs] == ["mlp--default"]
    assert planned.output == tmp_path / "out"


def test_a_machine_that_fails_is_no_usage_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def full(arguments: object) -> int:
        raise InfraError(Problem("/disk", "is full", "free it"))

    monkeypatch.setattr("flows.command.run.main", full)
    assert main(["run"]) == 1
    assert "is full (free it)" in capsys.readouterr().err


def test_report_of_an_unknown_run_lists_the_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--output", str(tmp_path)]) == 2
    assert "has no report of a run 'latest' (make one with shapeline run)" in capsys.readouterr().err
    (tmp_path / "runs/one").mkdir(parents=True)
    (tmp_path / "runs/one/report.json").write_text("{}")
    assert main(["report", "two", "--output", str(tmp_path)]) == 2
    assert "runs: one" in capsys.readouterr().err


def test_the_module_is_the_command_from_any_folder(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-m", "flows", "list", "suite=nope"], capture_output=True, text=True, cwd=tmp_path,
                          env=environment, check=False)
    assert done.returncode == 2
    assert "there is no suite 'nope'" in done.stderr


def test_every_verb_has_a_module_whose_help_it_prints(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in verbs.VERBS:
        if verb != "multirun":  # its options are Hydra's
            with pytest.raises(SystemExit) as stopped:
                main([verb, "--help"])
            assert stopped.value.code == 0
            assert capsys.readouterr().out.startswith(f"usage: shapeline {verb} ")
    assert main(["help"]) == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines() if line.startswith("  ")} == {*verbs.VERBS, "shapeline"}


def test_a_verb_loads_only_what_it_needs() -> None:
    code = ("import sys; from flows.__main__ import main; main(['list', 'model=mlp']); "
            "found = {name for name in sys.modules if name.startswith('flows.command.')}; "
            "print(sorted(found | {'torch', 'prefect', 'rich'} & set(sys.modules)))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
                          check=True)
    used = [f"flows.command.{name}" for name in ("arguments", "examples", "exits", "list", "printing", "verbs")]
    assert done.stdout.splitlines()[-1] == str(used)


@pytest.mark.parametrize("verb", ["exec", "steps"])
def test_a_program_that_is_not_there_is_refused_before_torch_is_loaded(verb: str, tmp_path: Path) -> None:
    command = [verb, "mlp", "--output", str(tmp_path)]
    script = f"import sys; from flows.__main__ import main; print(main({command!r}), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "2 False\n" and "make one with shapeline run" in done.stderr


@pytest.mark.parametrize(("file", "cause"), [("", "'' is not the name of a file"), (".", "'.' is not the name of a file"),
                                             ("nowhere/x.html", "there is no folder nowhere")])
def test_a_file_that_cannot_be_written_is_refused_at_once(file: str, cause: str, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["diff", "latest", "--html", file], ["list", "--write", file]):
        with pytest.raises(SystemExit):
            main(command)
        assert cause in capsys.readouterr().err


@pytest.mark.parametrize(("output", "cause"), [("", "is empty: name a folder or a URL"), ("README.md", "'README.md' is not a folder")])
def test_an_output_that_is_no_folder_is_refused(output: str, cause: str, monkeypatch: pytest.MonkeyPatch,
                                                capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    for command in (["cache", "gc", "--max-bytes", "1G"], ["prune", "--runs", "1"], ["pin"]):
        with pytest.raises(SystemExit):
            main([*command, "--output", output])
        assert cause in capsys.readouterr().err


@pytest.mark.parametrize(("text", "size"),
                         [("500", 500), ("1K", 1024), ("20G", 20 << 30), ("20GiB", 20 << 30), ("1.5 mb", 3 << 19), ("2TB", 2 << 40)])
def test_a_size_is_a_number_with_a_unit(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "G", "20X", "-1G", "20GG", "1e9"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match="is not a size; write a number with K, M, G or T"):
        parse_size(text)


@pytest.mark.parametrize("found", ["2.11.0+cpu", "2.14.1", "3.12.0"])
def test_an_unsupported_torch_is_refused_by_the_command_and_by_the_import(found: str, monkeypatch: pytest.MonkeyPatch,
                                                                          capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(versions.metadata, "version", lambda name: found)
    said = f"Shapeline needs torch 2.12 or 2.13, found {found}"
    assert main(["list"]) == USAGE_ERROR
    assert f"{said} (pip install 'torch==2.13.*', or try this one: SHAPELINE_ANY_TORCH=1)" in capsys.readouterr().err
    with pytest.raises(ImportError, match=re.escape(f"{said}: pip install 'torch==2.13.*'")):
        importlib.reload(shapeline)
    monkeypatch.setenv(versions.ANY, "1")
    assert importlib.reload(shapeline).lower
    assert main(["list", "suite=mlp"]) == OK
