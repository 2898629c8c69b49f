"""The entries of a model as one program: joined when a run ends, run by the commands, and compared with what verify recorded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from flows.__main__ import main
from flows.config.plan import Plan
from flows.config.run import Run
from flows.engine import joining
from flows.report import report
from flows.runs.begin import begin
from flows.runs.record import Record
from lowering import files, pipeline
from lowering.job import Job
from lowering.model import Input, Model, Symbol
from lowering.record.folder import SIGNATURE
from lowering.record.joining import Joining
from lowering.record.result import JobResult
from lowering.stages.export import Export
from lowering.stages.mhlo import ToMHLO
from lowering.stages.package import Package
from lowering.stages.stablehlo import ToStableHLO
from lowering.stages.torch_dialect import ToTorchDialect
from lowering.stages.torchscript import ToTorchScript
from lowering.stages.verify import Verify
from lowering.worker import joining as worker

STAGES = {"export": Export(archive=False), "torchscript": ToTorchScript(deployable=False), "torch": ToTorchDialect(),
          "stablehlo": ToStableHLO(), "mhlo": ToMHLO(), "verify": Verify(points=2, platforms=("cpu",), levels=("mhlo",), values=()),
          "package": Package()}  # fmt: skip


class Scorer(nn.Module):
    """Two methods with the weights of one module."""

    def __init__(self) -> None:
        super().__init__()
        self.table, self.head = nn.Embedding(8, 4), nn.Linear(4, 8)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.table(tokens))

    def step(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.head(self.table(tokens)).softmax(-1)


def model(entry: str, method: str) -> Model:
    return Model("scorer", {"_target_": f"{__name__}.Scorer"}, {"tokens": Input("int64", ("batch", 3), {"randint": [0, 8]})},
                 {"batch": Symbol(1, 8)}, method=method, entry=entry)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Record:
    """A run of three entries, one of which failed, whose programs are joined."""
    jobs = [Job(model(entry, method), STAGES, variant=f"default:{entry}")
            for entry, method in (("encoder", "forward"), ("prefill", "forward"), ("decode", "step"))]
    begun = begin(Run(Plan("scorers", output=tmp_path_factory.mktemp("joined")), tuple(jobs)))
    JobResult(jobs[0].id, "scorer", "default:encoder", "unsupported", "export").save(begun.job_folder(jobs[0].id))
    for job in jobs[1:]:
        result = pipeline.run(job, begun.job_folder(job.id))
        assert result.outcome == "ok", result.problems
        result.save(begun.job_folder(job.id))
    assert [one.id for one in joining.join(begun)] == ["scorer--default"]
    report.write(begun)
    return begun


def test_entries_are_joined_without_one_that_failed(run: Record) -> None:
    found = Joining.load(run.job_folder("scorer--default"))
    assert found is not None and found.problems == () and found.outcome == "ok"
    assert list(found.jobs) == list(found.checked) == ["prefill", "decode"] and found.missing["encoder"].startswith("unsupported in export")
    said = files.read(run.job_folder("scorer--default") / SIGNATURE)
    names = [[argument["name"] for argument in said["entries"][entry]["signature"]["arguments"]] for entry in ("prefill", "decode")]
    assert names[0] == names[1] == ["table.weight", "head.weight", "head.bias", "tokens"]
    assert len(list((run.folder.parents[1] / "store" / "weights").rglob("*.safetensors"))) == 1
    data = files.read(run.folder / "report.json")
    assert [one["outcome"] for one in data["programs"]] == ["ok"]
    assert "| scorer--default | ok | prefill, decode |" in (run.folder / "report.md").read_text()


@pytest.mark.parametrize(("arguments", "words"), [
    (["show", "scorer--default", "mhlo"], ["func.func @prefill(", "func.func @decode(", "// lines of "]),
    (["explain", "scorer--default", "batch"], ["entry prefill\n", "entry decode\n"]),
    (["exec", "scorer--default", "--entry", "decode", "--size", "batch=7"], ["on cpu at batch=7: ", "float32[7, 3, 8]"]),
    (["exec", "scorer--default:prefill"], ["float32[5, 3, 8]"]),
])
def test_commands_take_the_joined_program(run: Record, arguments: list[str], words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments, "--run", str(run.folder), "--output", str(run.folder.parents[1])]) == 0
    said = capsys.readouterr().out
    assert [word for word in words if word not in said] == []


@pytest.mark.parametrize(("entry", "words"), [
    ([], "no entry is named (entries: prefill, decode)"),
    (["--entry", "encoder"], "entry 'encoder'\n      was not joined: unsupported in export"),
    (["--entry", "forward"], "is not an entry of the program"),
])
def test_an_entry_that_the_program_lacks_is_a_usage_error(run: Record, entry: list[str], words: str,
                                                          capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["exec", "scorer--default", *entry, "--run", str(run.folder), "--output", str(run.folder.parents[1])]) == 2
    assert words in capsys.readouterr().err


def test_an_equal_program_is_not_joined_again(run: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    assert [one.outcome for one in joining.join(run)] == ["ok"]


def test_a_function_that_differs_from_eager_is_a_mismatch(run: Record, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    kept = run.job_folder("scorer--default:decode") / "06-verify.safetensors"
    before = kept.read_bytes()
    save_file({name: value + 1 if "/eager/" in name else value for name, value in load_file(kept).items()}, kept)
    found = Joining.load(run.job_folder("scorer--default"))
    assert found is not None
    other = run.folder / "jobs" / "again"
    other.mkdir()
    ended = worker.join(other, found)
    kept.write_bytes(before)
    assert ended.outcome == "mismatch" and ended.checked == ("prefill",) and "of program.stablehlo" in ended.problems[0].place


@pytest.mark.parametrize(("code", "limits", "outcome", "words"), [
    ("import os; os.abort()", {}, "crash", "its process ended with -6"),
    ("import time; held = bytearray(1 << 27); time.sleep(60)", {"memory_bytes": 1 << 26}, "oom", "more than the cap of 64 MiB"),
    ("import time; time.sleep(60)", {"stage_seconds": 0.1}, "timeout", "took too long"),
])
def test_a_process_that_dies_or_exceeds_a_limit_is_the_fault_of_one_program(
        run: Record, code: str, limits: dict[str, Any], outcome: str, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("first", "second")]
    for folder in folders:
        Joining(folder.name, {"decode": "none"}).save(folder)
    started: list[list[str]] = []
    start = subprocess.Popen

    def start_other(command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        started.append(command[3:])
        return start([sys.executable, "-S", "-c", code], **options)

    monkeypatch.setattr(subprocess, "Popen", start_other)
    monkeypatch.setitem(run.data, "limits", {**run.data["limits"], **limits})
    joining._join_all(folders, run)
    ended = [found for folder in folders if (found := Joining.load(folder)) is not None]
    assert [one.outcome for one in ended] == [outcome] * 2 and [len(names) for names in started] == [2, 1]
    assert words in ended[0].problems[0].cause
