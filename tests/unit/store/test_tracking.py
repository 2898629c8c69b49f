"""Results of a factory that reads files or variables which its model does not declare: reused only while these are the same."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from lowering import pipeline, tracking
from lowering.eager.module import instantiate
from lowering.job import Job
from lowering.level import Program
from lowering.model import Input, Model, Symbol
from lowering.record.result import JobResult
from lowering.stage import Note
from lowering.store import reuse
from lowering.store.entries import Store
from tests import toys

HOME: dict[str, Path] = {}


class Scaled(torch.nn.Module):
    """Multiplies by a number from an undeclared file, and by one from an undeclared variable."""

    def __init__(self, odd: str = "") -> None:
        super().__init__()
        self.factor = float((HOME["at"] / "factor.txt").read_text()) * float(os.environ.get("MODEL_SCALE", "1"))
        self.parts = len(os.listdir(HOME["at"] / "parts"))  # noqa: PTH208 - one of the ways
        if odd:
            subprocess.run([sys.executable, "-c", ""], check=True, env=dict(os.environ))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.factor


@dataclass(frozen=True)
class Build(toys.Export):
    """Builds the model, as the export stage does."""

    def reads(self) -> Any:
        return frozenset({"model"})

    def apply(self, program: Program, note: Note) -> Program:
        module: Any = instantiate(program.ir)
        return program.replace_ir(self.target, f"times {module.factor}, {module.parts} parts\n")


def lower(folder: Path, **factory: str) -> tuple[JobResult, str]:
    HOME["at"] = folder
    model = Model("scaled", {"_target_": f"{__name__}.Scaled", **factory}, {"x": Input("float32", ("n",))}, {"n": Symbol(1, 8)})
    job = Job(model, {"export": Build()})
    into = folder / f"job-{len(list(folder.iterdir()))}"
    into.mkdir()
    result = pipeline.run(job, into, store=folder / "store")
    assert result.outcome == "ok", result.problems
    held = reuse.find_job_entries(Store(folder / "store"), job.to_json(), {})
    assert held is not None, "the flow finds the whole job"
    return result, (into / "01-export.py").read_text() if (into / "01-export.py").exists() else next(into.glob("01-*")).read_text()


def test_a_changed_file_or_variable_is_a_miss_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "factor.txt").write_text("2")
    (tmp_path / "parts").mkdir()
    monkeypatch.delenv("MODEL_SCALE", raising=False)
    assert lower(tmp_path)[0].stages[0].cache == "miss"
    again, text = lower(tmp_path)
    assert again.stages[0].cache == "hit" and text == "times 2.0, 0 parts\n"
    (tmp_path / "factor.txt").write_text("3")
    changed, text = lower(tmp_path)
    assert changed.stages[0].cache == "miss" and text == "times 3.0, 0 parts\n"
    assert "factor.txt changed" in changed.stages[0].why
    monkeypatch.setenv("MODEL_SCALE", "10")
    changed, text = lower(tmp_path)
    assert changed.stages[0].cache == "miss" and text == "times 30.0, 0 parts\n" and "$MODEL_SCALE changed" in changed.stages[0].why
    (tmp_path / "parts/one").touch()
    changed, text = lower(tmp_path)
    assert changed.stages[0].cache == "miss" and text == "times 30.0, 1 parts\n" and "parts changed" in changed.stages[0].why
    monkeypatch.delenv("MODEL_SCALE")
    (tmp_path / "parts/one").unlink()
    assert lower(tmp_path)[0].stages[0].cache == "hit", "as the third time"
    assert not any(remark.code == "untracked" for remark in changed.warnings)


def test_what_no_key_can_tell_is_said_also_by_a_hit(tmp_path: Path) -> None:
    (tmp_path / "factor.txt").write_text("2")
    (tmp_path / "parts").mkdir()
    for cache in ("miss", "hit"):
        result, _ = lower(tmp_path, odd="yes")
        assert result.stages[0].cache == cache
        said = [remark.message for remark in result.warnings if remark.code == "untracked"]
        assert len(said) == 2 and "read the whole environment" in said[0] and "started a process" in said[1]


def test_only_what_the_model_reads_is_tracked(tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(b"x")
    with tracking.track() as reads:
        (tmp_path / "data.bin").read_bytes()
        (tmp_path / "made.txt").write_text("made")
        import json.tool  # noqa: F401 - opens files of the standard library

        Path("~").expanduser()
        Path("/etc/hosts").read_text()
    os.environ.get("AFTERWARDS")
    assert reads.names == {str(tmp_path / "data.bin"), "$HOME"}
    assert tracking.digest({"$NOT_THERE", str(tmp_path / "gone")}, {}) == {"$NOT_THERE": "absent", str(tmp_path / "gone"): "absent"}
